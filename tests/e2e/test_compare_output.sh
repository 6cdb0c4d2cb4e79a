#!/usr/bin/env bash
# bench/compare-output, with a llama.cpp that is Volley in disguise: what is asked of it, and what is made of
# its answers.
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 1
export VOLLEY=$volley TMPDIR=$scratch target=$root/models/stories15M-q8_0.gguf log=$scratch/log
mkdir -p "$scratch/peer/bin" "$scratch/tools"
printf 'Once upon a time\nThe cat sat on the mat and\n' >"$scratch/texts"
head -c 1500 tests/data/stories.txt >"$scratch/text"

cat >"$scratch/peer/bin/llama-server" <<'END'
#!/usr/bin/env bash
[ "$1" != --version ] || { echo 'version: 7 (abc)'; exit; }
echo "server $*" >>"$log"
touch "$TMPDIR/alive"
exec sleep 3600
END
cat >"$scratch/peer/bin/llama-perplexity" <<'END'
#!/usr/bin/env bash
echo "perplexity $*" >>"$log"
while [ $# -gt 0 ]; do
    [ "$1" != -f ] || text=$2
    [ "$1" != -c ] || ctx=$2
    shift
done
"$VOLLEY" perplexity -m "$target" -f "$text" -c "$ctx" --json 2>/dev/null | jq -r --argjson by "${BY-1}" \
    '"[1]9.9,[2]3.1,\nFinal estimate: PPL = \(.perplexity * $by) +/- \(.standard_error)"'
END
# In place of HTTP. TWIST, a jq filter, changes the answer.
cat >"$scratch/tools/curl" <<'END'
#!/usr/bin/env bash
# Requests for single tokens: the last one of a window has the most, whose logits answer all.
many() {
    sed -n 's/^data = //p' | jq -c 'fromjson' >"$TMPDIR/requests"
    jq -cs '[range(length) as $i | select($i + 1 == length or
        (.[$i + 1].prompt | length) < (.[$i].prompt | length)) | .[$i].prompt] | .[]' "$TMPDIR/requests" |
        while read -r prompt; do
            "$VOLLEY" logits -m "$target" --ids "$(jq -r 'map(tostring) | join(",")' <<<"$prompt")" --top 1000 |
                jq -cs --argjson prompt "$prompt" --slurpfile requests "$TMPDIR/requests" '. as $logits
                    | $requests[] | select(.prompt == $prompt[:.prompt | length] and .n_predict == 1)
                    | .logit_bias[0][0] as $id | $logits[.prompt | length - 1] as $l
                    | {completion_probabilities: [{logprob: (($l.top[] | select(.[0] == $id) | .[1]) - $l.lse)}]}'
        done
}
case $* in
'-K -') many | jq -c "${TWIST-.}" ;;
*/health) [ -e "$TMPDIR/alive" ] ;;
*/tokenize*) "$VOLLEY" tokenize -m "$target" --bos -p "$(jq -r .content)" --json | jq '{tokens: .ids}' ;;
*/completion*)
    jq -c . >"$TMPDIR/request"
    "$VOLLEY" run -m "$target" -d none --temp 0 --json -n "$(jq .n_predict "$TMPDIR/request")" \
        -p "$(jq -r .prompt "$TMPDIR/request")" 2>/dev/null >"$TMPDIR/written"
    "$VOLLEY" logits -m "$target" --top 10 \
        --ids "$(jq -r '.prompt_tokens + .tokens | map(tostring) | join(",")' "$TMPDIR/written")" |
        jq -s --slurpfile written "$TMPDIR/written" '$written[0] as $w | ($w.prompt_tokens | length) as $n
            | {tokens: $w.tokens, stop_type: "limit", completion_probabilities:
                [.[$n - 1:-1][] | {top_logprobs: [. as $l | .top[] | {id: .[0], logprob: (.[1] - $l.lse)}]}]}' |
        jq "${TWIST-.}"
    ;;
esac
END
chmod +x "$scratch"/peer/bin/* "$scratch"/tools/*
compare() {
    env PATH="$scratch/tools:$PATH" "$root/bench/compare-output" --peer "$scratch/peer" --device 0 \
        --texts "$scratch/texts" --text "$scratch/text" -n 6 --ctx 64 --json "$scratch/json" "$@"
}
says() {
    check "$1" jq -e "$2" "$scratch/json"
}

check_exit 'the same program twice' 0 compare stories15M-q8_0
says 'who was compared' '.peer == "llama.cpp 7 (abc)" and (.device | length > 0) and .kv == "int8"'
says 'texts agree to their ends' '.greedy | length == 2 and
    all(.agrees and .agreeing == 6 and .tokens == 6 and .gap == null and .same_prompt_tokens)'
says 'no difference of log-probabilities' '.greedy | all(.compared_logprobs == 60 and .max_difference < 1e-6)'
says 'perplexities agree' '.perplexity | .agrees and .ctx == 64 and (.difference | fabs) < 1e-6 and
    .peer_error > 0'
says 'nothing is left out' '.misses == []'
check_match 'as text' '  agree   6 of 6 tokens; 0, 0  "Once upon a time"' "$out"
check_match 'as text, perplexity' '  agree   Volley [0-9.]+ \+/- [0-9.]+, llama.cpp [0-9.]+ ' "$out"
check_match 'the server gets the file and room for the longest text' \
    "^server -m $target --host 127.0.0.1 --port [0-9]+ -ngl 99 -c 22 --parallel 1$" "$(grep ^server "$log")"
check_match 'so does the other' "^perplexity -m $target -f $scratch/text -c 64 -ngl 99$" \
    "$(grep ^perplexity "$log")"
check_equal 'no server is left' '' "$(pgrep -f "$scratch/peer" || true)"

check_exit 'a description goes to Volley' 1 compare --only perplexity --arch "$scratch/nothing" stories15M-q8_0
says 'a description goes to Volley: why' '.misses | any(test("cannot open .*nothing"))'

head -n 1 "$scratch/texts" >"$scratch/one" && mv "$scratch/one" "$scratch/texts"

# The fourth token is another, though the best by far; then one that is nearly as good.
other='.tokens[3] = 5'
TWIST=$other check_exit 'another token' 1 compare --only greedy stories15M-q8_0
says 'where, and by how much' '.greedy | all((.agrees | not) and .agreeing == 3 and .gap > 0.1)'
check_match 'where, as text' '  DIFFER  3 of 6 tokens, then a gap of [0-9.]+' "$out"
TWIST="$other | .completion_probabilities[3].top_logprobs[1].logprob =
    .completion_probabilities[3].top_logprobs[0].logprob - 0.05" \
    check_exit 'another token, nearly as good' 0 compare --only greedy stories15M-q8_0
says 'the gap' '.greedy | all(.agrees and .agreeing == 3 and (.gap - 0.05 | fabs) < 1e-6)'
says 'the difference of that one' '.greedy | all(.max_difference > 0.01)'
TWIST="$other" check_exit 'ties as wide as one says' 0 compare --only greedy --tie 100 stories15M-q8_0
TWIST='.tokens = .tokens[:2] | .completion_probabilities = .completion_probabilities[:2] | .stop_type = "eos"' \
    check_exit 'a text that ends earlier' 1 compare --only greedy stories15M-q8_0
says 'the end counts as a token' '.greedy | all(.agreeing == 2 and .tokens == 3 and .gap > 0.1)'

BY=1.006 check_exit 'another perplexity' 1 compare --only perplexity stories15M-q8_0
says 'by how much' '.greedy == [] and (.perplexity | (.agrees | not) and (.difference + 0.005964 | fabs) < 1e-4)'
BY=1.004 check_exit 'a perplexity within 0.5%' 0 compare --only perplexity stories15M-q8_0

rm "$scratch/peer/bin/llama-perplexity"
# All of its tokens are among the 1000 best that can be asked for.
"$volley" run -m "$target" -d none -p 'Once upon a time' -n 190 --temp 0 --ignore-eos \
    >"$scratch/text" 2>"$scratch/err"
check_exit 'a perplexity from the server' 0 compare --only perplexity stories15M-q8_0
says 'a perplexity from the server is the same' '.perplexity | .agrees and .ctx == 64 and
    (.difference | fabs) < 1e-4 and (.peer_error / .volley_error - 1 | fabs) < 0.01'
TWIST='.completion_probabilities[0].logprob -= 0.006' \
    check_exit 'another perplexity from the server' 1 compare --only perplexity stories15M-q8_0
says 'by how much, from the server' '.perplexity.difference + 0.006 | fabs < 1e-4'
TWIST='{error: "no"}' check_exit 'a server that tells none' 1 compare --only perplexity stories15M-q8_0
says 'what could not be compared, and why' '.misses[0] | test("perplexity: llama-server: .*0 answers of")'
printf '#!/bin/sh\necho "error: no such format" >&2; exit 1\n' >"$scratch/peer/bin/llama-server"
rm "$scratch/alive"
check_exit 'a peer that does not run the file' 1 compare stories15M-q8_0
says 'its words' '.misses | any(test("greedy: llama-server: error: no such format"))'
rm "$scratch/peer/bin/llama-server"
check_exit 'no peer' 1 compare stories15M-q8_0
check_match 'no peer: it says so' 'llama-server is neither on PATH' "$out"
check_match 'no peer: neither a perplexity' 'neither llama-perplexity nor llama-server is on PATH' "$out"

check_exit 'no model' 2 "$root/bench/compare-output"
check_exit 'an unknown option' 2 "$root/bench/compare-output" --nothing 1 "$target"
check_exit 'an unknown work' 2 "$root/bench/compare-output" --only cooking "$target"
check_exit 'a model that is not there' 1 "$root/bench/compare-output" stories15M-q8
check_match 'a model that is not there: near ones' 'near ones' "$err"
check_exit 'a text that is not there' 1 "$root/bench/compare-output" --text "$scratch/nothing" "$target"
check_exit 'help' 0 "$root/bench/compare-output" --help
check_match 'help explains' 'agree within 0.5%' "$out"
check_equal 'nothing is left behind' '' "$(ls -d "$scratch"/tmp.* 2>/dev/null)"
