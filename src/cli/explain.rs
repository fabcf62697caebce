//! `ferry explain`: what a code means.

use clap::Args;
use serde_json::json;

use crate::codes;
use crate::failure::{Failure, Kind};
use crate::report::render::{exit_meaning, wrap};
use crate::report::tables::Table;
use crate::report::{Sink, stdout_width};

/// ferry's own exit codes.
pub(super) const EXITS: [u8; 11] = [0, 1, 2, 4, 5, 6, 7, 8, 9, 99, 250];

/// `ferry explain`
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// A code such as F411, or an exit code; without it the list of all
    code: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

fn value(code: &codes::Code) -> serde_json::Value {
    json!({"code": code.code, "title": code.title, "means": code.means, "mend": code.mend})
}

pub(super) fn run(args: &ExplainArgs) -> Result<u8, Failure> {
    let mut out = Sink::stdout();
    let Some(text) = &args.code else {
        if args.json {
            let all: Vec<_> = codes::ALL.iter().map(value).collect();
            out.put(&format!("{}\n", serde_json::to_string_pretty(&all).unwrap_or_default()));
            return Ok(0);
        }
        let mut table = Table::new(["code", "means"]);
        for code in codes::ALL {
            table.row([code.code, code.title]);
        }
        table.print();
        return Ok(0);
    };
    if let Some(code) = codes::find(text) {
        if args.json {
            out.put(&format!("{}\n", serde_json::to_string_pretty(&value(code)).unwrap_or_default()));
            return Ok(0);
        }
        let width = stdout_width().min(100);
        let mut lines = vec![format!("{}: {}", code.code, code.title), String::new()];
        lines.extend(wrap(code.means, width));
        lines.push(String::new());
        let mend = wrap(code.mend, width.saturating_sub(6)).into_iter().enumerate();
        lines.extend(mend.map(|(number, row)| format!("{}{row}", if number == 0 { "mend  " } else { "      " })));
        out.lines(&lines);
        return Ok(0);
    }
    let exit = text.parse().ok().filter(|code| EXITS.contains(code));
    let Some(exit) = exit else {
        let near = crate::name::nearest(text, codes::ALL.iter().map(|code| code.code), 2);
        let failure = Failure::new(Kind::Usage, format!("there is no code {text:?}"));
        return Err(if near.is_empty() {
            failure.mend("ferry explain lists all of them")
        } else {
            failure.mend(format!("did you mean {}? ferry explain lists all of them", near.join(" or ")))
        });
    };
    if args.json {
        out.put(&format!("{}\n", json!({"exit": exit, "means": exit_meaning(exit)})));
        return Ok(0);
    }
    out.lines(&wrap(&format!("exit {exit}: {}", exit_meaning(exit)), stdout_width().min(100)));
    Ok(0)
}
