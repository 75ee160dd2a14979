#!/bin/sh
# Fuzzes every target, or those named, one after the other; the numbers of each run are in FOLDER/<target>.log.
#
#     fuzz/run.sh FOLDER [target...]
#
# FUZZ_RUNS (default 10000000) inputs each, of at most FUZZ_MAX_LEN (default 4096) bytes. A panic, an input of more than
# FUZZ_TIMEOUT (default 5) seconds and more than FUZZ_RSS_MB (default 512) MiB of memory end the run with the input kept.
set -eu
cd "$(dirname "$0")"
folder=$1
shift
[ $# -gt 0 ] || set -- tag stg dvc next_action cvs skill vqa judge_reply record file messages evaluate
mkdir -p "$folder"
python3 corpus.py unpack "$folder/corpus"
for target in "$@"; do
    mkdir -p "$folder/artifacts/$target"
    # Everything is safe Rust: without the address sanitizer ten times the inputs are tried in the same time.
    cargo +nightly fuzz run -s none --fuzz-dir . "$target" "$folder/corpus/$target" -- \
        -runs="${FUZZ_RUNS:-10000000}" -max_len="${FUZZ_MAX_LEN:-4096}" -dict="dictionaries/$target.dict" \
        -timeout="${FUZZ_TIMEOUT:-5}" -rss_limit_mb="${FUZZ_RSS_MB:-512}" -artifact_prefix="$folder/artifacts/$target/" \
        -print_final_stats=1 >"$folder/$target.log" 2>&1 || {
        tail -n 20 "$folder/$target.log" >&2
        exit 1
    }
    grep -E "^Done|number_of_executed_units|peak_rss_mb|slowest_unit" "$folder/$target.log" | sed "s/^/$target: /"
done
