#!/usr/bin/env bash
# The ways to draft: none changes the text, n-grams pay where text repeats, and a draft whose context
# is full hands over.
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 1
target=models/stories15M-q8_0.gguf
draft=models/smol-stories-11M-q8_0.gguf

# again TEXT N: the text N times.
again() {
    local i
    for ((i = 0; i < $2; i++)); do printf %s "$1"; done
}
dialog=$(again '"I want to play," said Tom. "I want to play too," said Sue. ' 4)'"I want'

# ---- the text ----

for method in text ngram chain auto; do # test_speculation.sh has model
    for temp in 0 0.7 1; do
        for k in 1 3 4 9 16; do
            check "$method, temperature $temp, $k drafted: identical" "$volley" verify \
                -p "$dialog" -n 40 --temp $temp --seed $k --draft-method $method --draft-max $k
        done
    done
done
for method in model text ngram chain auto; do
    check "$method, penalties: identical" "$volley" verify -p "$dialog" -n 40 --seed 5 \
        --frequency-penalty -0.5 --draft-method $method
    check "$method, f16 cache and filters: identical" "$volley" verify -p "$dialog" -n 40 --seed 6 \
        --kv f16 --top-k 20 --min-p 0.05 --draft-method $method
    check "$method, to the end of the context: identical" "$volley" verify -p "$dialog" -c 128 \
        --ignore-eos --seed 7 --draft-max 7 --draft-method $method
done

# ---- what is drafted ----

# run OPTION...: JSON to $scratch/run, the table of statistics to $scratch/stats.
run() { "$volley" run --json --stats "$@" >"$scratch/run" 2>"$scratch/stats" </dev/null; }

run -p "$dialog" -n 30 --temp 0 --draft-method ngram
check 'ngram: no draft model is loaded' jq -e '.draft == null and .stats.kv_bytes.draft == 0' \
    "$scratch/run"
check 'ngram: and still drafts' jq -e '.stats | .drafted > 0 and .accepted > 0
    and (.accepted_by_position | length == 8 and add > 0)' "$scratch/run"
run -d none -p 'Once upon a time' -n 8 --temp 0 --draft-method ngram
check 'ngram: nothing where nothing occurred before' jq -e '.stats.drafted == 0' "$scratch/run"
run -p 'Once upon a time' -n 8 --temp 0 --draft-method chain
check 'chain: the model drafts there' jq -e '.stats.drafted > 0' "$scratch/run"

# Tokens that repeat themselves are copied, a block at a time.
n_prompts=0
while IFS='|' read -r text times rest; do
    n_prompts=$((n_prompts + 1))
    prompt=$(again "$text" "$times")$rest
    for method in ngram chain; do
        run -p "$prompt" -n 80 --temp 0 --draft-max 8 --draft-method $method
        check "$method, '$text' again and again: mean accepted length at least 4" \
            jq -e '.stats | .mean_accepted_length >= 4 and .generated_tokens == 80' "$scratch/run"
    done
done <<'END'
The end. |8|The end.
Thank you, mommy. |8|Thank
"I want to play," said Tom. "I want to play too," said Sue. |4|"I want
END
check_equal 'three prompts were copied' 3 $n_prompts

# sums: what the table says that each method drafted and how tokens were lost comes to all of them.
sums() {
    awk "$@" '
    /^drafted/ { drafted = +$2; accepted = +$5 }
    /^  by / { by_drafted += $3; by_accepted += $6 }
    /^lost/ { lost = +$2; in_lost = 1; next }
    in_lost && /its rank/ { gsub(/(4-10|11-100|[1-3]):/, ""); gsub(/[^0-9 ]/, ""); ranked = $1 + $2 + $3 + $4 + $5 + $6; picked = lost; next }
    in_lost && $2 == "position" || /position/ { in_lost = 0 }
    in_lost { lost += $1; behind_end = +$1 }
    END {
        if (drafted == 0 || drafted != by_drafted || accepted != by_accepted ||
            drafted != accepted + lost)
            print "drafted", drafted, "accepted", accepted, "by methods", by_drafted, by_accepted,
                "lost", lost
        if (ranked != picked) print picked, "not picked, with ranks", ranked
        if (ends && behind_end == 0) print "nothing was lost behind the end"
    }' "$scratch/stats"
}
run -p "$dialog" -n 60 --temp 0.7 --seed 2 --draft-method chain
check_equal 'chain: both drafted' 'model ngram ' \
    "$(sed -n 's/^  by \([a-z]*\).*/\1/p' "$scratch/stats" | sort | tr '\n' ' ')"
check_equal 'chain: the sums are right' '' "$(sums)"
run -m $draft -d $draft -p 'The cat sat on the mat and' --temp 0 --draft-method model --draft-max 16
check 'a model that drafts for itself ends its text' jq -e '.finish_reason == "stop"' "$scratch/run"
check_equal 'the sums are right where the end was drafted' '' "$(sums -v ends=1)"

# ---- a draft whose context is full ----

# handover METHOD OPTION...: a text of 330 tokens, of which the draft has room for 256.
handover() {
    local method=$1
    shift
    run -m $draft -d $target --ignore-eos --seed 3 --draft-method "$method" "$@"
    check_equal "$method, a full draft: said once" 1 \
        "$(grep -c "the draft's context of 256 tokens is full" "$scratch/stats")"
    check_equal "$method, a draft larger than its target: said once" 1 \
        "$(grep -c "the draft's weights, .* are more than the target's" "$scratch/stats")"
    check_match "$method, a full draft: n-grams go on" '^  by ngram +[0-9]+' "$(cat "$scratch/stats")"
    check_equal "$method, a full draft: the sums are right" '' "$(sums)"
    jq -c '[.tokens, .finish_reason]' "$scratch/run" >"$scratch/$method"
    "$volley" run --json -m $draft -d none --ignore-eos --seed 3 "$@" </dev/null |
        jq -c '[.tokens, .finish_reason]' >"$scratch/plain"
    check "$method, a full draft: the same text" cmp "$scratch/plain" "$scratch/$method"
}
for method in model text chain; do
    handover $method -p 'Once upon a time' -n 330
    check "$method: the model drafted until then" grep -Eq '^  by (model|text)' "$scratch/stats"
    handover $method -p "$(again 'The cat sat. ' 150)The" -n 20 # a prompt of more than a chunk
done

# Texts that repeat for so long that the model reads on without being asked to propose.
for options in '--presence-penalty -3 --repeat-last-n 12' '--frequency-penalty -1 --repeat-last-n 24'; do
    # shellcheck disable=SC2086 # options
    check "chain, $options, to the end of the context: identical" "$volley" verify -m $draft -d $draft \
        --ignore-eos --temp 0 --draft-max 16 --draft-method chain -p "$(again 'The end. ' 20)" $options
done

# ---- wrong usage ----

usage() { # COMMAND PATTERN OPTION...
    local command=$1 pattern=$2
    shift 2
    check_exit "$command $*: exit status 2" 2 "$volley" "$command" -p Once "$@"
    check_match "$command $*: what was expected" "$pattern" "$err"
}
usage run 'expected auto\|none\|model\|text\|ngram\|chain' --draft-method tree
for command in run verify; do
    usage $command 'uses no draft' -d $draft --draft-method ngram
    usage $command 'needs a draft' -d none --draft-method chain
    usage $command 'needs a draft' -d none --draft-method text
    usage $command "'--draft-method model' needs a draft: '-d' is missing" -m $target --draft-method model
done

# ---- what auto keeps for later runs ----

export XDG_CACHE_HOME=$scratch/cache
kept() { "$volley" run -vv -p "$dialog" -n 40 --temp 0 2>"$scratch/log"; }
first=$(kept)
profile=$(echo "$scratch"/cache/volley/profile-*.bin)
check 'auto: a profile is kept' test -s "$profile"
check_equal 'auto: with a profile, the same text' "$first" "$(kept)"
check 'auto: and it is used' grep -q 'profile from' "$scratch/log"
size=$(stat -c %s "$profile")
for damage in "truncate -s 100" "truncate -s $((size + 1))" "dd if=/dev/zero bs=1 count=8 seek=16 conv=notrunc status=none of=" "rm"; do
    # shellcheck disable=SC2086 # words of a command
    case $damage in *of=) $damage"$profile" ;; *) $damage "$profile" ;; esac
    check_equal "auto: after ${damage%% *}, the same text" "$first" "$(kept)"
    check "auto: after ${damage%% *}, nothing is taken from it" \
        sh -c '! grep -q "profile from" "$1"' sh "$scratch/log"
    check_equal "auto: after ${damage%% *}, it is whole again" "$size" "$(stat -c %s "$profile")"
done
rm -rf "$scratch/cache"
touch "$scratch/cache"
check_equal 'auto: no place for a profile, the same text' "$first" "$(kept)"
unset XDG_CACHE_HOME
