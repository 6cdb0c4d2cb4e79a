#!/usr/bin/env bash
# bench/compare, with a llama.cpp that is a script: what is asked of it, and what is made of its answers.
. "$(dirname "$0")/lib.sh"
export VOLLEY=$volley TMPDIR=$scratch
target=synthetic:dim=64,layers=1,heads=2,vocab=400,ctx=256:q8_0
draft=synthetic:dim=32,layers=1,heads=2,vocab=400,ctx=256:f16
mkdir -p "$scratch/peer/bin"
printf ' a b c\n d e f\n' >"$scratch/texts"

# Writes 4 tokens/s for texts, 10 n / (n + 9) for passes over n tokens, 100 for prompts; refuses context 99.
cat >"$scratch/peer/bin/llama-bench" <<'END'
#!/usr/bin/env bash
echo "GGML_VK_VISIBLE_DEVICES=$GGML_VK_VISIBLE_DEVICES $*" >>"$LOG"
prompts= depth=0
while [ $# -gt 0 ]; do
    case $1 in
    -p) prompts=$2 ;;
    -n) tokens=$2 ;;
    -d) depth=$2 ;;
    -m) [ -e "$2" ] || exit 1 ;;
    esac
    shift
done
[ "$depth" != 99 ] || { echo 'error: no room for 99' >&2; exit 1; }
entry() {
    echo '{"build_number": 7, "build_commit": "abc", "gpu_info": "some", "n_prompt": '$1', "n_gen": '$2',
        "n_depth": '$depth', "samples_ts": ['$3', '$3', 1000000]}'
}
{
    [ "$tokens" = 0 ] || entry 0 "$tokens" 4
    [ "$tokens" != 0 ] || for n in ${prompts//,/ }; do
        if [ $n -gt 30 ]; then entry $n 0 100; else entry $n 0 "$(jq -n "10 * $n / ($n + 9)")"; fi
    done
} | jq -s .
END
chmod +x "$scratch/peer/bin/llama-bench"
export LOG=$scratch/log

check_exit 'decoding, passes and prompts' 0 "$root/bench/compare" --peer "$scratch/peer" --device 0 \
    --contexts 0,20,99 --sizes 1,11 --prompts 40,9999 -n 8 -r 1 --json "$scratch/json" \
    --csv "$scratch/csv" $target
report=$out
says() {
    check "$1" jq -e "$2" "$scratch/json"
}
says 'who was compared' '.peer == "llama.cpp 7 (abc), some" and (.device | length > 0)'
says 'the works' '[.rows[].work] == ["decode at context 0", "decode at context 20",
    "pass over 1 at context 128", "pass over 11 at context 128", "pass over 11 against 1", "prompt of 40"]'
says 'medians of the peer' '[.rows[].peer] | .[0] == 4 and .[1] == 4 and .[5] == 100'
says 'times of its passes' '[.rows[].peer] | (.[2] - 1000 | fabs) < 1 and (.[3] - 2000 | fabs) < 1 and
    (.[4] - 2 | fabs) < 0.01'
says 'ratios say how many times faster' '.rows | all(.volley > 0) and
    all((if .unit == "tokens/s" then .volley / .peer else .peer / .volley end) - .ratio | fabs < 1e-6)'
says 'what could not be compared, and why' '.misses | any(test("context 99: llama-bench: error: no room")) and
    any(test("prompt of 9999: volley")) and any(test("speculation: no DRAFT"))'
check_match 'the same as text' 'decode at context 0 +tokens/s' "$report"
check_match 'with what is missing' 'no room for 99' "$report"
check_equal 'the CSV has a line for each' 7 "$(wc -l <"$scratch/csv")"
check_match 'llama.cpp gets the same device' '^GGML_VK_VISIBLE_DEVICES=0 .*-ngl 99' "$(head -n 1 "$LOG")"
check_equal 'nothing is left behind' '' "$(ls -d "$scratch"/tmp.* 2>/dev/null)"

check_exit 'without a peer' 1 env PATH="$PATH" "$root/bench/compare" --peer "$scratch" --only decode \
    --contexts 0 -n 8 -r 1 $target
check_match 'it says so' 'llama-bench is neither' "$out"

# A server that knows no pair.
cat >"$scratch/peer/bin/llama-server" <<'END'
#!/usr/bin/env bash
echo 'error: the vocabularies are not compatible' >&2
exit 1
END
chmod +x "$scratch/peer/bin/llama-server"
check_exit 'speculation' 1 "$root/bench/compare" --peer "$scratch/peer" --only speculation --drafts 2 \
    --texts "$scratch/texts" -n 8 --json "$scratch/json" $target $draft
says 'Volley with each k' '[.rows[].work] == ["texts, k = 0", "texts, k = 2", "texts, k = auto",
    "texts, each with its best k"] and (.rows | all(.volley > 0 and .peer == null))'
says 'why the peer did not' '.misses | any(test("k = 0: llama-server: error: the vocabularies"))'

check_exit 'no model' 2 "$root/bench/compare"
check_exit 'an unknown option' 2 "$root/bench/compare" --nothing 1 $target
check_exit 'an unknown work' 2 "$root/bench/compare" --only cooking $target
check_exit 'help' 0 "$root/bench/compare" --help
check_match 'help explains' 'how many times faster' "$out"
