//! An archive, fed in pieces: the same verdict however it is cut, in bounded memory.
#![no_main]
use ferry::archive::{Limits, Walker};
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let walk = |piece: usize| {
        let mut walker = Walker::new(Limits::default(), Vec::new());
        for part in bytes.chunks(piece) {
            walker.feed(part).map_err(|fault| fault.to_string())?;
        }
        walker.finish().map(|walk| walk.members).map_err(|fault| fault.to_string())
    };
    let (whole, cut) = (walk(bytes.len().max(1)), walk(7));
    assert_eq!(whole.is_ok(), cut.is_ok(), "{whole:?} {cut:?}");
});
