#!/usr/bin/env bash
# volley run, verify and logits as a user meets them: inputs, outputs, ends, errors, signals.
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 1
target=models/stories15M-q8_0.gguf
draft=models/smol-stories-11M-q8_0.gguf
plain=(-m $target -d none --temp 0)

# ---- the text, and where the prompt comes from ----

check_exit 'the shipped pair writes' 0 "$volley" run -p 'Once upon a time' -n 11 --temp 0
check_equal 'the text alone, on standard output' ', there was a little girl named Lily. She' "$out"
check_match 'a line of statistics on standard error' \
    '^11 tokens, [0-9.]+ tokens/s, [0-9]+ blocks, (mean accepted length [0-9.]+, acceptance rate [0-9.]+|nothing drafted), seed [0-9]+$' \
    "$err"
check_equal 'and nothing else there' 1 "$(wc -l <"$scratch/err")"
printf ', there was a little girl named Lily. She\n' >"$scratch/text"
check 'the text ends in one newline' cmp "$scratch/text" "$scratch/out"
check_exit '--echo' 0 "$volley" run "${plain[@]}" -p 'Once upon a time' -n 3 --echo
check_equal '--echo: the prompt comes first' 'Once upon a time, there was' "$out"
check_match 'without a draft the line says nothing of one' \
    '^3 tokens, [0-9.]+ tokens/s, 3 blocks, seed [0-9]+$' "$err"
check_exit 'one token' 0 "$volley" run -p Once -n 1 --draft-method model
check_match 'one token: nothing is drafted for it' '^1 token, .* 1 block, nothing drafted, seed' "$err"
check_exit 'an empty prompt' 0 "$volley" run -p '' -n 1 --stats
check_match 'an empty prompt: the start token is not read by itself' '^prompt +1 token in [0-9.]+ ms$' \
    "$err"
check_exit '-m alone' 0 "$volley" run -v -m $target -p Once -n 1
check_match '-m alone: no draft, and -v says so' 'no draft model' "$err"

printf 'Once upon\n\n' >"$scratch/prompt"
for input in "-f $scratch/prompt" '-f -' ''; do
    # shellcheck disable=SC2086 # an option with its value
    "$volley" run "${plain[@]}" $input -n 1 --json <"$scratch/prompt" >"$scratch/json"
    check_equal "prompt from '${input%%/*}': one newline is taken off" 'Once upon
.' "$(jq -r '.prompt + "."' "$scratch/json")"
done
printf 'a\0\xff' >"$scratch/prompt"
"$volley" run "${plain[@]}" -f "$scratch/prompt" -n 1 --json >"$scratch/json"
check_equal 'a prompt of any bytes is valid JSON' '"a\u0000\ufffd"' \
    "$(jq -c --ascii-output .prompt "$scratch/json" | tr A-Z a-z)"
check_equal 'and reaches the model byte by byte' '[1,263,3,258]' \
    "$(jq -c .prompt_tokens "$scratch/json")"
"$volley" run "${plain[@]}" -p '</s>' -n 0 --json >"$scratch/json"
check_equal 'control tokens in a prompt are text' '[1,1533,29879,29958]' \
    "$(jq -c .prompt_tokens "$scratch/json")"
"$volley" run "${plain[@]}" -p '</s>' -n 0 --json --parse-special >"$scratch/json"
check_equal 'but with --parse-special' '[1,2]' "$(jq -c .prompt_tokens "$scratch/json")"
check_exit 'an empty prompt, of a model that has a beginning token' 0 \
    "$volley" run "${plain[@]}" -p '' -n 2
check_exit 'an empty prompt, of one that has none' 1 "$volley" run -m $draft -p '' -n 2
check_match 'is an error' 'the prompt is empty' "$err"

# ---- JSON ----

check_exit '--json' 0 "$volley" run --json -p 'Once upon a time' -n 9 --seed 18446744073709551615 \
    --draft-method model
check_equal '--json: standard error is empty' '' "$err"
check_equal '--json: one line' 1 "$(wc -l <"$scratch/out")"
check_equal '--json: the keys, in order' \
    'model draft prompt prompt_tokens text tokens finish_reason seed stats' \
    "$(jq -r 'keys_unsorted | join(" ")' "$scratch/out")"
check_equal '--json: the keys of stats' \
    'prompt_tokens generated_tokens prompt_ms generate_ms tokens_per_second blocks drafted accepted acceptance_rate mean_accepted_length accepted_by_position drafted_by_position blocks_by_length by_method probes lost generated_bytes bytes_per_block draft_ms verify_ms map_ms wait_ms idle_ms plain_ms speed_up kv_bytes device context kv weights_bytes draft_vocabulary' \
    "$(jq -r '.stats | keys_unsorted | join(" ")' "$scratch/out")"
check_equal '--json: the keys of kv_bytes' 'target draft' \
    "$(jq -r '.stats.kv_bytes | keys_unsorted | join(" ")' "$scratch/out")"
check_match '--json: all bits of the seed' '"seed":18446744073709551615,' "$out"
check '--json: the figures agree with each other' jq -e '
    .model == "stories15M" and .draft == "smol-stories-11M" and .prompt == "Once upon a time"
    and .prompt_tokens == [1, 9038, 2501, 263, 931] and (.tokens | length) == 9
    and .finish_reason == "length" and (.stats
    | .prompt_tokens == 5 and .generated_tokens == 9 and (.accepted_by_position | length) == 4
      and (.accepted_by_position | add) == .accepted and .accepted <= .drafted
      and (.acceptance_rate - .accepted / .drafted | fabs) < 1e-5
      and (.mean_accepted_length - 1 - .accepted / .blocks | fabs) < 1e-5
      and (.tokens_per_second * .generate_ms / 1000 / .generated_tokens - 1 | fabs) < 0.01
      and .prompt_ms > 0 and .draft_ms > 0 and .verify_ms > 0 and .draft_ms < .generate_ms
      and .kv_bytes.target > 0 and .kv_bytes.draft > 0)' "$scratch/out"
check '--json: what the table says besides' jq -e '.stats | .context == 256 and .kv == "int8" and (.device | length > 0)
    and .weights_bytes.target > .weights_bytes.draft / 100 and .weights_bytes.draft > 0
    and .draft_vocabulary.tokens == 49152 and .draft_vocabulary.mapped > 10000' "$scratch/out"
check_exit '--json without a draft' 0 "$volley" run --json "${plain[@]}" -p Once -n 4
check '--json without a draft: the figures' jq -e '
    .draft == null and (.stats | .blocks == 4 and .drafted == 0 and .accepted == 0
    and .acceptance_rate == 0 and .mean_accepted_length == 1 and .accepted_by_position == []
    and .kv_bytes.draft == 0)' "$scratch/out"
check_exit '--json --stats' 0 "$volley" run --json --stats -p Once -n 4
check '--json --stats: still one object' jq -e .stats "$scratch/out"
check_match '--json --stats: the table is on standard error' '^KV cache +target [0-9.]+ MiB' "$err"
check_exit '--stats, with as many lengths as there are' 0 "$volley" run --stats -p 'Once upon a time' -n 60 --temp 0.7
check_match '--stats: the table' '^blocks  ' "$err"
check_equal '--stats: no line passes 80 columns' '' "$(awk 'length > 80' "$scratch/err")"

# ---- seeds ----

text() { "$volley" run -p 'Once upon a time' -n 24 --temp 1 "$@" 2>"$scratch/err"; }
first=$(text --seed 7)
check_equal 'the same seed, the same text' "$first" "$(text --seed 7)"
check 'another seed, another text' test "$first" != "$(text --seed 8)"
first=$(text)
seed=$(sed 's/.*seed //' "$scratch/err")
check_equal 'a random seed is reported, and gives the text again' "$first" "$(text --seed "$seed")"

# ---- ends ----

check_exit 'no tokens' 0 "$volley" run --json -p Once -n 0
check 'no tokens: none' jq -e '.tokens == [] and .text == "" and .finish_reason == "length"
    and .stats.generated_tokens == 0 and .stats.mean_accepted_length == 1' "$scratch/out"
check_exit 'one token' 0 "$volley" run --json -p Once -n 1
check 'one token: one' jq -e '(.tokens | length) == 1 and .finish_reason == "length"' "$scratch/out"
check_exit 'up to the context' 0 "$volley" run --json -p Once -c 40 --ignore-eos
check 'up to the context: full, by length' jq -e '.finish_reason == "length"
    and (.prompt_tokens | length) + (.tokens | length) == 40' "$scratch/out"
check_exit 'up to the end of the text' 0 "$volley" run --json -m $draft -p 'The cat sat on the mat and' --temp 0
check 'up to the end of the text: stop, without its token' jq -e '.finish_reason == "stop"
    and (.tokens | length) > 5 and (.tokens | index(0)) == null' "$scratch/out"
check_exit 'a prompt as long as the context' 1 "$volley" run -p 'Once upon a time' -c 5
check_match 'a prompt as long as the context: both numbers' '5 tokens.*context of 5' "$err"
check_exit 'one token as long as the context' 1 "$volley" run -p '' -c 1
check_match 'one token as long as the context: one' 'has 1 token; the context of 1' "$err"

check_exit 'a context beyond what the model was made for' 0 "$volley" run -p Once -n 1 -c 1000
check_match 'is cut, and said to be' '-c 1000: .* at most 256 tokens, which is taken' "$err"

# ---- files that will not do ----

head -c 100000 $target >"$scratch/cut.gguf"
head -c 10000000 $draft >"$scratch/cut_draft.gguf"
bad() { # NAME PATTERN OPTION...
    local name=$1 pattern=$2
    shift 2
    check_exit "$name: exit status 1" 1 "$volley" run --json -p Once -n 1 "$@"
    check_equal "$name: nothing on standard output" '' "$out"
    check_match "$name: why" "^volley: error: .*$pattern" "$err"
}
bad 'no such target' "$scratch/none" -m "$scratch/none"
bad 'no such draft' "$scratch/none" -d "$scratch/none"
bad 'a folder for a target' "$scratch" -m "$scratch"
bad 'a target cut short' 'cut.gguf' -m "$scratch/cut.gguf"
bad 'a draft cut short' 'draft.*cut_draft.gguf' -d "$scratch/cut_draft.gguf"
bad 'a text for a target' "$scratch/prompt" -m "$scratch/prompt"
bad 'a vocabulary for a target' . -m tests/data/tokenizers/mistral-v0.1.gguf
bad 'a vocabulary for a draft' draft -d tests/data/tokenizers/mistral-v0.1.gguf
bad 'no such device' 'no such device' --device 'no such device'
bad 'a bias for no token' 32000 --logit-bias 32000:1
check_exit 'no such prompt' 1 "$volley" run -f "$scratch/none"
check_exit 'a folder for a prompt' 1 "$volley" run -f "$scratch"

# ---- wrong usage ----

usage() { # COMMAND PATTERN OPTION...
    local command=$1 pattern=$2
    shift 2
    check_exit "$command $*: exit status 2" 2 "$volley" "$command" -p Once "$@"
    check_match "$command $*: what was expected" "$pattern" "$err"
}
for value in -1 101 nan inf 1e999 '' 0x1 '1 '; do
    usage run 'expected a number, 0 to 100,' --temp "$value"
done
usage run "unexpected argument 'mistral': a text goes behind -p, a model behind -m" mistral
usage run "option '--draft-m' may be --draft-max or --draft-method" --draft-m 3
usage run "option '--draft-m=3' may be --draft-max or --draft-method" --draft-m=3
usage run "unknown option '--=3'" --=3
usage run "option '--echo=3' takes no value" --echo=3
usage run "unknown option '-Z'" -Z
usage run "unknown option '-Z'" --echo -Zn 5
usage run "option '--verbose=3' takes no value" --verbose=3
usage run "option '-n' needs a value" -n
for value in 0 -0.1 1.01 nan; do usage run 'above 0 and at most 1' --top-p "$value"; done
for value in -0.1 1.01; do usage run '0 to 1,' --min-p "$value"; done
for value in -1 99999999999 1.5; do usage run '0 to 4294967294' --top-k "$value"; done
for value in -5 4294967295 x; do usage run 'to 4294967294, or -1' -n "$value"; done
for value in -1 17 99; do usage run '0 to 16' --draft-max "$value"; done
for value in -1 18446744073709551616 1e3; do usage run '0 to 18446744073709551615' --seed "$value"; done
for value in 0 101; do usage run 'above 0 and at most 100' --repeat-penalty "$value"; done
usage run '.-100 to 100' --presence-penalty 101
usage run '.-100 to 100' --frequency-penalty nan
for value in 5 5: :1 5:x 5:inf 5:1e7 x:1; do usage run 'expected ID:BIAS' --logit-bias "$value"; done
usage run 'int8 or f16' --kv f32
usage run 'a whole number' -c -1
usage run 'not both' --echo --json
usage run 'expected one of -p and -f' -f x
usage run "unexpected argument 'x'" x
usage run "'-m' needs a value" -m
usage run 'unknown option' --seeds 2
usage verify '1 to 1000000' --seeds 0
usage verify '1 to 16' --draft-max 0
usage verify 'expected a draft' -d none
usage verify "'-d' is missing" -m $target
usage logits "'-m' is missing"
usage logits '1 to 1000' -m $target --top 0
usage logits 'expected one of -p, -f and --ids' -m $target --ids 1
for ids in '' 1, ,1 1,,2 1,x -1 4294967296; do
    check_exit "logits --ids '$ids'" 2 "$volley" logits -m $target --ids "$ids"
done
if script -qec true /dev/null >/dev/null 2>&1 </dev/null; then
    text=$(script -qec "'$volley' run -n 1; echo status \$?" /dev/null </dev/null)
    check_match 'a terminal and no prompt: exit status 2' 'status 2' "$text"
    check_match 'a terminal and no prompt: how to give one' '-p TEXT or -f FILE' "$text"
else
    skip 'a terminal and no prompt' 'there is no script(1)'
fi

# ---- logits ----

check_exit 'logits of a text' 0 "$volley" logits -m $target -p 'Once upon' --top 3
check_equal 'logits of a text: its tokens, a beginning in front' '1 9038 2501' \
    "$(jq -r .id "$scratch/out" | xargs)"
check 'logits of a text: the best first' jq -es 'all(.top | length == 3
    and (map(.[1]) == (map(.[1]) | sort | reverse)) and (map(.[0]) | unique | length) == 3)' \
    "$scratch/out"
check 'logits of a text: above their mean, below their log-sum-exp' \
    jq -es 'all(.mean < .top[2][1] and .top[0][1] < .lse)' "$scratch/out"
cp "$scratch/out" "$scratch/of_text"
check_exit 'logits of tokens' 0 "$volley" logits -m $target --ids 1,9038,2501 --top 3
check 'logits of tokens: the same' cmp "$scratch/of_text" "$scratch/out"
check_exit 'logits of a token that is none' 1 "$volley" logits -m $target --ids 1,32000
check_match 'logits of a token that is none: it is named' '32000' "$err"
check_exit 'logits past the context' 1 "$volley" logits -m $target -c 2 --ids 1,2,3

# ---- verify ----

check_exit 'verify' 0 "$volley" verify -p 'Once upon a time' -n 12 --seed 5 --seeds 2
check_match 'verify: each seed' '^seed 6: identical, 12 tokens, [0-9.]+ tokens/s with the draft, [0-9.]+ without' "$out"
check_match 'verify: the sum' '^identical for 2 seeds, 24 tokens,' "$out"
check_exit 'verify --json' 0 "$volley" verify --json -p 'Once upon a time' -n 12 --seed 5 --seeds 2
check 'verify --json: one object' jq -e '.identical and .model == "stories15M"
    and .draft == "smol-stories-11M" and (.seeds | map(.seed)) == [5, 6]
    and (.seeds | all(.identical and .difference == null and .generated_tokens == 12))
    and .generated_tokens == 24 and .tokens_per_second.with_draft > 0
    and .tokens_per_second.without_draft > 0 and .mean_accepted_length >= 1' "$scratch/out"

# ---- signals ----

# A background job of a script ignores Ctrl-C unless the program asks for it.
check_signal 'Ctrl-C: exit status 130' 130 INT 'test -s "$scratch/out"' \
    "$volley" run -m "$endless" -p Once --ignore-eos
check_match 'Ctrl-C: the statistics' '^[0-9]+ tokens, .*, seed [0-9]+$' "$err"
check 'Ctrl-C: before the end' test "$(sed 's/ .*//' "$scratch/err")" -lt 199000

"$volley" run -m "$endless" -p Once --ignore-eos 2>"$scratch/err" | head -c 5 >"$scratch/out"
check_equal 'a reader that goes away: no complaint' '' "$(cat "$scratch/err")"
if [ -w /dev/full ]; then
    check_exit 'a full disk: exit status 1' 1 sh -c '"$1" run -p Once -n 20 >/dev/full' sh "$volley"
    check_equal 'a full disk: said once' 1 "$(grep -c 'cannot write' "$scratch/err")"
fi

# ---- the documents ----

for command in run verify logits; do
    "$volley" $command --help >"$scratch/help"
    check_equal "$command --help: no line passes 80 columns" '' "$(awk 'length > 80' "$scratch/help")"
done
"$volley" run --help >"$scratch/help"
for option in $(sed -n '/^| option/,/^$/p' README.md | grep -oE '`--?[a-z][a-z-]*' | tr -d '`' | sort -u); do
    check "README's $option is in 'run --help'" grep -qE -- "(^| |, )$option( |,|\$)" "$scratch/help"
done
