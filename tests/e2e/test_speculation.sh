#!/usr/bin/env bash
# A draft changes the speed and never the text.
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 1
target=models/stories15M-q8_0.gguf
draft=models/smol-stories-11M-q8_0.gguf
prompt='One day, a girl named Sue'

# The shipped pair, at every length of draft, at each temperature, over several seeds.
for k in 1 2 3 4 5 6 7 8 15 16; do
    for temp in 0 0.7 1; do
        seeds=$((k <= 4 ? 3 : 2))
        [ $temp = 0 ] && seeds=1
        check "temperature $temp, $k drafted: $seeds seeds identical" \
            "$volley" verify -p "$prompt" -n 28 --temp $temp --seed $k --seeds $seeds --draft-max $k
    done
done

# verify says of itself that the texts are equal; here they are compared from outside.
# same_text NAME TOKENS OPTION...: the text of that many tokens, alone and with each draft length.
same_text() {
    local name=$1 n=$2 k
    shift 2
    "$volley" run --json -m $target -d none -p "$prompt" -n "$n" "$@" >"$scratch/plain"
    check_equal "$name: text" "$n" "$(jq '.tokens | length' "$scratch/plain")"
    for k in 2 5; do
        "$volley" run --json -m $target -d $draft -p "$prompt" -n "$n" --draft-method model --draft-max $k "$@" \
            >"$scratch/drafted"
        check_equal "$name, $k drafted: the same text" \
            "$(jq -c '[.tokens, .text, .finish_reason]' "$scratch/plain")" \
            "$(jq -c '[.tokens, .text, .finish_reason]' "$scratch/drafted")"
        check "$name, $k drafted: something was drafted" \
            jq -e '.stats.drafted > 0' "$scratch/drafted"
    done
}
same_text 'f16 cache' 40 --kv f16 --seed 11
same_text 'top-k' 40 --top-k 20 --top-p 1 --temp 1 --seed 12
same_text 'top-p' 40 --top-p 0.6 --temp 1.2 --seed 13
same_text 'min-p' 40 --min-p 0.05 --top-p 1 --temp 1.5 --seed 14
same_text 'all filters' 40 --top-k 40 --top-p 0.9 --min-p 0.02 --seed 15
same_text 'penalties' 40 --repeat-penalty 1.2 --presence-penalty 0.3 --frequency-penalty 0.2 \
    --repeat-last-n 30 --seed 16
same_text 'bias' 40 --logit-bias 263:-inf --logit-bias 278:2.5 --temp 0
check_equal 'a banned token does not occur' 0 \
    "$(jq '[.tokens[] | select(. == 263)] | length' "$scratch/drafted")"
check 'and would without the ban' \
    sh -c '"$1" run --json -d none -m "$2" -p "$3" -n 40 --temp 0 |
        jq -e "[.tokens[] | select(. == 263)] | length > 0"' sh "$volley" $target "$prompt"

# Among a vocabulary larger than most, of which nearly all is a candidate, device and host pick alike.
large=(run --json -m synthetic:dim=64,layers=1,ff=64,vocab=300000,ctx=64:q8_0 -p abc -n 4
    --ignore-eos --draft-max 0 --temp 100 --top-k 250000 --top-p 0.99 --seed 19)
"$volley" "${large[@]}" >"$scratch/device"
"$volley" "${large[@]}" --logit-bias 5:0 >"$scratch/host"
check_equal 'picks among 250000 candidates' "$(jq -c .tokens "$scratch/host")" \
    "$(jq -c .tokens "$scratch/device")"
check 'there were picks' jq -e '.tokens | length == 4' "$scratch/device"

# Past the model's end of text, and up to the end of the context.
same_text 'past the end of text' 120 --ignore-eos --seed 17
same_text 'to the end of the context' $((64 - $("$volley" tokenize -m $target --bos -p "$prompt" |
    wc -w))) --ignore-eos --seed 18 -c 64
check_equal 'the context ends the text' length "$(jq -r .finish_reason "$scratch/drafted")"

# A draft with the target's vocabulary is the identity map; one that is the target itself is always right.
for options in '--temp 0' '--temp 0.7 --seed 3' '--temp 1 --top-p 1 --seed 4'; do
    # shellcheck disable=SC2086 # options
    "$volley" run --json -m $target -d $target -p "$prompt" -n 32 --draft-method model --draft-max 3 $options \
        >"$scratch/self"
    check_equal "the target as its own draft, $options: all is accepted" '[1,4,32]' \
        "$(jq -c '[.stats.acceptance_rate, .stats.mean_accepted_length, .stats.generated_tokens]' \
            "$scratch/self")"
done
check 'a draft of the same vocabulary, other weights' \
    "$volley" verify -m $target -d tests/models/stories15M-q4_0.gguf -p "$prompt" -n 40 --seeds 2
check 'the other way round: SentencePiece drafts for byte-level BPE' \
    "$volley" verify -m $draft -d $target -p "$prompt" -n 40 --seeds 2
check 'text that the draft cannot spell' \
    "$volley" verify -p $'caf\xc3\xa9 \x04\x06 \xe5\xa5\xbd\xf0\x9f\x90\xb1 {"a":[1]}\n\n' -n 40 --seeds 3 \
    --temp 1.5 --top-p 1

# The speed that the draft is for.
blocks=0 accepted=0
while read -r text; do
    read -r b a < <("$volley" run --json -p "$text" --temp 0 --draft-method model --draft-max 4 -n 48 |
        jq -r '"\(.stats.blocks) \(.stats.accepted)"')
    blocks=$((blocks + b)) accepted=$((accepted + a))
done < <(jq -r '[.cases[].prompt] | unique[]' tests/data/golden/logits.json)
mean=$(jq -n "1 + $accepted / $blocks")
echo "# mean accepted length $mean over $blocks blocks"
check 'mean accepted length over the six prompts: at least 2.5' jq -ne "$mean >= 2.5"
