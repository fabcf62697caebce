# What holds, in three sizes. `just` alone lists them.

_default:
    @just --list

# The fast part of .ci/run: under ten minutes.
check:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings
    cargo test --locked --lib
    cargo test --locked --test floors --test paper --test archive --test catalog --test report

# All tests, with what they need installed.
test:
    tests/run

# Everything that must hold, from a clean clone, under forty minutes.
ci:
    .ci/run

# The hundreds of kills and cuts, by hand. Its result belongs in docs/measured.md.
long:
    tests/run --long
    # Quick, with every check that a debug build has; the dependencies are those of the debug build.
    CARGO_PROFILE_DEV_OPT_LEVEL=2 FERRY_LONG=1 FERRY_FUZZ_SECONDS=3600 cargo test --locked --test fuzz -- --nocapture
    tests/fuzz
    tests/coverage

# ansible-core's own integration targets against ferry. Its result belongs in docs/measured.md.
conformance:
    cargo build --locked
    tests/conformance/run
    tests/conformance/ssh

# Speed and memory beside OpenSSH, in one run, with ratios.
bench:
    cargo build --locked --release
    tests/bench/collect
    tests/bench/reach
    tests/bench/move
    tests/bench/playbook

# A static binary for x86_64, built twice in different folders: the digests must be equal.
release:
    tests/release
