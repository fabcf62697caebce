//! What is kept beside a backup although Gravity leaves it out: public certificates, those in files of a node and the
//! one that is served, and what an NFS server exports.
//!
//! What lives here: the root script, which reads and writes nothing, and the reading of what it says. A file with a
//! private key in it gives its certificates alone. What does not: where it is kept and compared (`settings_capture`).

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::gates::platform_host;
use super::probe::{FUNCTIONS, STATE, look, sections, tail};
use super::target::{CertificateSeen, Look, plain, read_certificate};
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::remote::{Session, quote};

/// How long the look may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// So many certificates of a node are kept.
const MOST: usize = 200;

/// What to ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptQuestions {
    /// Files, and folders whose files are looked into; absolute. Gravity's own `<state>/secrets` is always among them.
    pub paths: Vec<String>,
    /// Gravity's state directory; empty: the node is asked.
    pub state_dir: String,
    /// `pce_platform_dns`; its served certificate is read with the chain.
    pub platform_dns: Option<String>,
}

/// A certificate, its public part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptCertificate {
    /// The file that it stands in, or `served at NAME`.
    pub place: String,
    /// What it says; its names and times are empty where the node has no openssl.
    #[serde(flatten)]
    pub seen: CertificateSeen,
    /// PEM.
    #[serde(skip)]
    pub pem: String,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Certificates in the order of their places.
    pub certificates: Vec<KeptCertificate>,
    /// Lines of `/etc/exports` and its folder, without comments.
    pub exports: Vec<String>,
}

/// POSIX sh. `blocks PLACE` reads text and tells each certificate in it.
const BODY: &str = r#"
there() { command -v "$1" >/dev/null 2>&1; }
bounded=
if timeout 5 true >/dev/null 2>&1; then bounded=1; fi
blocks() {
  pem=; inside=
  while IFS= read -r line; do
    case $line in
      *'-----BEGIN CERTIFICATE-----'*) inside=1; pem='-----BEGIN CERTIFICATE-----' ;;
      *'-----END CERTIFICATE-----'*)
        [ -n "$inside" ] || continue
        inside=
        pem=$(printf '%s\n-----END CERTIFICATE-----' "$pem")
        printf 'place %s\n' "$1"
        if there openssl; then
          printf '%s\n' "$pem" | within 10 openssl x509 -noout -subject -issuer -startdate -enddate -fingerprint -sha256 2>/dev/null
        fi
        printf '%s\n' "$pem" ;;
      *) [ -z "$inside" ] || pem=$(printf '%s\n%s' "$pem" "$line") ;;
    esac
  done
}
one() {
  [ -f "$1" ] && [ -r "$1" ] || return 0
  head -c 262144 "$1" 2>/dev/null | grep -q -e '-----BEGIN CERTIFICATE-----' || return 0
  head -c 262144 "$1" 2>/dev/null | tr -d '\r\000' | blocks "$1"
}
begin certificates
{
  if [ -n "$H" ] && [ -n "$bounded" ] && there openssl; then
    if [ -n "$V" ]; then
      within 20 openssl s_client -showcerts -connect "$C" -servername "$V" </dev/null 2>/dev/null | blocks "served at $H"
    else
      within 20 openssl s_client -showcerts -connect "$C" </dev/null 2>/dev/null | blocks "served at $H"
    fi
  fi
  for path in "$S/secrets" "$@"; do
    if [ -d "$path" ]; then
      for file in "$path"/*.cert "$path"/*.crt "$path"/*.cer "$path"/*.pem; do one "$file"; done
    else
      one "$path"
    fi
  done
} | head -c 1500000
end certificates 0
begin exports
for file in /etc/exports /etc/exports.d/*.exports; do
  [ -r "$file" ] && sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$file"
done | head -c 100000
end exports 0
printf '\n%s done\n' "$N"
"#;

/// The look at a host: one root script, at most two minutes.
///
/// # Errors
/// [`Kind::CouldNotStart`]: a path is not absolute. [`Kind::Unreachable`], [`Kind::Failed`]: there is no whole answer.
pub async fn kept(session: &Session, questions: &KeptQuestions) -> Result<Kept, Failure> {
    let nonce: u128 = rand::random();
    let nonce = format!("ferry-{nonce:032x}");
    let host = session.host();
    let script = script(questions, &nonce).map_err(|failure| failure.on(host))?;
    let said = look(session, &script, PATIENCE).await?;
    read(&nonce, &said.out).map_err(|why| {
        Failure::new(Kind::Failed, "the look at certificates and exports was cut short").on(host).saw(format!(
            "{why}; {}; standard error: {}",
            said.exit,
            tail(&plain(&said.err_text()), 300)
        ))
    })
}

fn script(questions: &KeptQuestions, nonce: &str) -> Result<String, Failure> {
    let word = |text: &str| {
        quote(text).map_err(|nul| Failure::new(Kind::CouldNotStart, nul.to_string()).saw(format!("{text:?}")))
    };
    let mut paths = Vec::new();
    for path in &questions.paths {
        if !path.starts_with('/') || path.contains('\n') {
            return Err(Failure::new(Kind::CouldNotStart, "pce_certificate_paths holds a path that is not absolute")
                .saw(format!("{path:?}"))
                .mend("a list of files and folders, each beginning with /"));
        }
        paths.push(word(path)?);
    }
    // What is no name was told by the gates' own look.
    let name = platform_host(questions.platform_dns.as_deref()).unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let name = if name.starts_with('-') || !name.chars().all(fits) { "" } else { name };
    let address = name.parse::<std::net::IpAddr>().ok();
    let connect = match address {
        Some(std::net::IpAddr::V6(ip)) => format!("[{ip}]:443"),
        _ => format!("{name}:443"),
    };
    Ok(format!(
        "N={}\nS={}\nH={}\nC={}\nV={}\nset -- {}\n{FUNCTIONS}{STATE}{BODY}",
        word(nonce)?,
        word(questions.state_dir.trim_end_matches('/'))?,
        word(name)?,
        word(&connect)?,
        word(if address.is_some() { "" } else { name })?,
        paths.join(" "),
    ))
}

/// SHA-256 of a certificate as openssl writes it; empty when it is no base64.
fn fingerprint(base64: &str) -> String {
    use base64::Engine as _;
    let Ok(der) = base64::engine::general_purpose::STANDARD.decode(base64) else { return String::new() };
    let digest = Sha256::of(&der).to_string().to_uppercase();
    digest.as_bytes().chunks(2).map(String::from_utf8_lossy).collect::<Vec<_>>().join(":")
}

fn read(nonce: &str, out: &[u8]) -> Result<Kept, String> {
    let sections = sections(nonce, out)?;
    let text = |name: &str| {
        let section = sections.iter().find(|section| section.name == name).ok_or(format!("there is no {name}"))?;
        Ok::<_, String>(String::from_utf8_lossy(section.text).into_owned())
    };
    let mut kept = Kept::default();
    let mut known = BTreeSet::new();
    for part in format!("\n{}", text("certificates")?).split("\nplace ").skip(1) {
        let (place, rest) = part.split_once('\n').unwrap_or((part, ""));
        let Some((about, pem)) = rest.split_once("-----BEGIN CERTIFICATE-----") else { continue };
        let Some((body, _)) = pem.split_once("-----END CERTIFICATE-----") else { continue };
        let body: Vec<&str> = body.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let is_base64 = |line: &&str| line.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
        if body.is_empty() || !body.iter().all(is_base64) || kept.certificates.len() >= MOST {
            continue;
        }
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", body.join("\n"));
        let seen = match read_certificate(0, about) {
            Look::Seen(seen) => seen,
            _ => CertificateSeen::default(),
        };
        let mut seen = seen;
        if seen.fingerprint.is_empty() {
            seen.fingerprint = fingerprint(&body.concat());
        }
        let place = plain(place);
        if known.insert((place.clone(), pem.clone())) {
            kept.certificates.push(KeptCertificate { place, seen, pem });
        }
    }
    kept.exports = text("exports")?.lines().map(plain).filter(|line| !line.is_empty()).collect();
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIB\nAAA=\n-----END CERTIFICATE-----\n";

    #[test]
    fn certificates_and_exports_are_read_and_nothing_else() {
        let out = format!(
            "\nn begin certificates\nplace /a b.pem\nsubject=CN = x\nissuer=CN = y\nnotBefore=Nov 26 00:00:00 2026 GMT\nnotAfter=Nov 26 00:00:00 2027 GMT\nsha256 Fingerprint=AA:BB\n{PEM}place served at z\n{PEM}place /evil\n-----BEGIN CERTIFICATE-----\n$(rm)\n-----END CERTIFICATE-----\n\nn end certificates 0\n\nn begin exports\n/srv/nfs *(rw)\n\nn end exports 0\n\nn done\n"
        );
        let kept = read("n", out.as_bytes()).unwrap_or_else(|why| panic!("{why}"));
        let places: Vec<&str> = kept.certificates.iter().map(|one| one.place.as_str()).collect();
        assert_eq!(places, ["/a b.pem", "served at z"]);
        assert_eq!((kept.certificates[0].seen.subject.as_str(), kept.certificates[0].pem.as_str()), ("CN = x", PEM));
        assert_eq!(kept.certificates[0].seen.not_after, Some(1_827_187_200));
        assert_eq!(kept.exports, ["/srv/nfs *(rw)"]);
    }

    #[test]
    fn paths_are_absolute_and_quoted() {
        let ask = |path: &str| script(&KeptQuestions { paths: vec![path.to_owned()], ..KeptQuestions::default() }, "n");
        assert!(ask("relative.pem").is_err());
        assert!(ask("/a'b").is_ok_and(|text| text.contains(r"'/a'\''b'") || text.contains("\"/a'b\"")));
    }
}
