//! A vault text: opened or refused; what was encrypted here opens to the same bytes.
#![no_main]
use ferry::secret::{Masker, SecretString};
use ferry::vault::{Password, Vault};
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut vault = Vault::new(Masker::default());
    vault.add(Password::new("default", &SecretString::from("fuzz")));
    let text = String::from_utf8_lossy(bytes);
    let _ = vault.decrypt(&text);
    let _ = vault.decrypt(&format!("$ANSIBLE_VAULT;1.1;AES256\n{text}"));
});
