#!/usr/bin/env bash
# Perplexity against figures of llama.cpp 0.7.0 (its library's CPU backend, f16 cache, driven as
# llama-perplexity drives it) over tests/data/stories.txt, which the shipped target wrote.
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 1
text=tests/data/stories.txt

# within PERCENT A B
within() { awk -v p="$1" -v a="$2" -v b="$3" 'BEGIN { exit !(a > 0 && (a - b) ^ 2 <= (p / 100 * b) ^ 2) }'; }
# measures NAME PEER PEER_ERROR COUNTED OPTION...: of the first 3000 bytes
measures() {
    local name=$1 peer=$2 bar=$3 counted=$4
    shift 4
    head -c 3000 $text >"$scratch/short"
    check_exit "$name" 0 "$volley" perplexity -f "$scratch/short" --json "$@"
    check "$name: the peer's figure within 0.5%, $(jq .perplexity <<<"$out") against $peer" \
        within 0.5 "$(jq .perplexity <<<"$out")" "$peer"
    check "$name: the peer's error bar within 2%" \
        within 2 "$(jq .standard_error <<<"$out")" "$bar"
    check_equal "$name: tokens that count" "$counted" "$(jq .counted_tokens <<<"$out")"
}
measures 'windows side by side' 2.7539 0.31361 403 -c 64
measures 'windows that overlap' 2.9043 0.27740 704 -c 128 --stride 32
measures 'a vocabulary without a start token' 3.7945 0.58345 315 \
    -m models/smol-stories-11M-q8_0.gguf --ctx 128
measures 'Q4_0' 2.5017 0.26599 378 -m tests/models/stories15M-q4_0.gguf -c 128
measures 'Q4_0, f16 cache' 2.5017 0.26599 378 -m tests/models/stories15M-q4_0.gguf -c 128 --kv f16

check_exit 'the whole text, windows of the context' 0 "$volley" perplexity -f $text
check_match 'the whole text: the result' \
    '^perplexity 2\.7[0-9]+ \+/- 0\.1[0-9]+, 12 windows of 256 tokens, 1524 of 3072 tokens counted$' \
    "$out"
check 'the whole text: the peer has 2.7448' within 0.5 "$(cut -d' ' -f2 <<<"$out")" 2.7448
check_match 'the whole text: progress' '^window 12 of 12: perplexity 2\.7' "$err"

# ---- bad input ----

check_exit 'fewer tokens than a window' 1 "$volley" perplexity -p 'Once upon a time'
check_match 'fewer tokens than a window: both numbers' \
    'has 5 tokens; expected at least 256, a window: .*-c 5' "$err"
check_exit 'that window fits' 0 "$volley" perplexity -p 'Once upon a time' -c 5
check_exit 'two tokens' 0 "$volley" perplexity -p 'Once upon a time' -c 2 --json
check_equal 'two tokens: the second of each counts' 2 "$(jq .counted_tokens <<<"$out")"
check_exit 'an empty text' 1 "$volley" perplexity -p ''
check_exit 'one token that counts' 0 "$volley" perplexity -p Once -c 2
check_match 'one token that counts tells no error' '^perplexity 1\.[0-9]+, 1 window of 2 tokens, 1 of 2 tokens counted$' "$out"
check_equal 'nor does it as JSON' null "$("$volley" perplexity -p Once -c 2 --json 2>/dev/null | jq .standard_error)"
check_exit 'a window of more than the context' 1 "$volley" perplexity -f $text -c 257
check_match 'a window of more than the context: both numbers' 'at most .* 256 tokens, got 257' "$err"
check_exit 'a stride of a whole window' 1 "$volley" perplexity -f $text -c 64 --stride 64
check_match 'a stride of a whole window: why' 'fewer than the 64 tokens of a window, got 64' "$err"
# On a narrow terminal progress is one line that is written over, and gone at the end.
if script -qec true /dev/null >/dev/null 2>&1 </dev/null; then
    script -qec "stty cols 40; '$volley' perplexity -f $text -c 64" /dev/null </dev/null >"$scratch/tty" 2>&1
    check_match 'a terminal: progress' 'window [0-9]+ of ' "$(cat "$scratch/tty")"
    check_equal 'a terminal: no line of progress is wider' '' \
        "$(tr '\r' '\n' <"$scratch/tty" | sed -n 's/\x1b\[K.*//p' | awk 'length > 39')"
    check_match 'a terminal: the result takes its place' $'\r\x1b\\[Kperplexity [0-9]' "$(cat "$scratch/tty")"
else
    skip 'a terminal' 'there is no script'
fi

for option in '-c 1' '-c x' '--stride x' '--stride -1' '--top-k 1' '-d none' 'more'; do
    # shellcheck disable=SC2086 # words
    check_exit "wrong usage: $option" 2 "$volley" perplexity -f $text $option
done
check_exit 'a file that is not there' 1 "$volley" perplexity -f "$scratch/nothing"
