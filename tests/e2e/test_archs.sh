#!/usr/bin/env bash
# Families of models, RoPE scalings, windows and a described architecture: small models of random weights
# against a float64 reference (tests/data/archs); text beyond a window; what --arch and files must not say.
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 1
models=tests/data/archs
described=$models/described.json

# ---- logits ----

# The largest difference of the 10 best logits and of their log-sum-exp; $case is the reference.
difference='
. as $lines
| [$case.positions[] | . as $want | $lines[$want.pos] as $got
   | ($got.top | map({key: .[0] | tostring, value: .[1]}) | from_entries) as $logit
   | ($got.lse - .lse | fabs),
     ($want.top[] | . as [$id, $value] | ($logit[$id | tostring] // infinite) - $value | fabs)]
| max'

compare_logits() { # CASE KV COMMAND...: the command is the program
    local case=$1 kv=$2 limit=0.02 arch=() name ids far
    shift 2
    name=$(jq -r .model <<<"$case")
    ids=$(jq -r '.ids | join(",")' <<<"$case")
    [ -e "$models/$name.json" ] && arch=(--arch "$models/$name.json")
    # int8 keys and values are rounded to 1 part in 254 of their largest.
    [ "$kv" = int8 ] && limit=0.3
    "$@" logits -m "$models/$name.gguf" "${arch[@]}" --ids "$ids" --kv "$kv" --top 288 \
        >"$scratch/logits" 2>"$scratch/err"
    far=$(jq -s --argjson case "$case" "$difference" "$scratch/logits" 2>&1)
    if jq -en "$far < $limit" >/dev/null 2>&1; then
        pass "$name, $kv: logits within $limit"
    else
        fail "$name, $kv: logits within $limit" "largest difference: $far"$'\n'"$(cat "$scratch/err")"
    fi
}

n_cases=0
while read -r case; do
    n_cases=$((n_cases + 1))
    compare_logits "$case" f16 "$volley"
    [[ $(jq -r .model <<<"$case") != qwen3* ]] || compare_logits "$case" int8 "$volley"
done < <(jq -c '.[]' $models/logits.json)
check_equal 'every model was looked at' "$(ls $models/*.gguf | wc -l)" $n_cases

# The same as a GPU would compute them, with biases, windows, norms of heads and of what layers add.
as_gpu() {
    ASAN_OPTIONS=${ASAN_OPTIONS:-}:verify_asan_link_order=0 LD_PRELOAD=$pose "$volley" "$@"
}
pose=$(dirname "$volley")/tests/preload/pose_as_gpu.so
check 'what makes a processor pose as a GPU is built (make e2e-bin)' test -e "$pose"
check_match 'it does' 'type +(virtual|discrete|integrated)' "$(as_gpu devices)"
while read -r case; do compare_logits "$case" f16 as_gpu; done \
    < <(jq -c '.[] | select(.model | IN("llama-linear", "described", "qwen3-heads"))' $models/logits.json)
check_exit 'and its text, ahead of the host, with a draft' 0 as_gpu verify -m $models/mistral.gguf \
    -d $models/qwen2.gguf -p 'the dog sat' -n 60 --seed 1 --ignore-eos --draft-method model --draft-max 3

# ---- text beyond a window ----

# 230 tokens; the window of 16 lies in 2 pages at most, of 2304 bytes.
prompt='the dog sat'
"$volley" run -m $models/mistral.gguf -p "$prompt" -n 217 --temp 0 --ignore-eos --json >"$scratch/run"
check_equal 'a long windowed text takes the pages of its window' true \
    "$(jq '(.tokens | length) == 217 and .stats.kv_bytes.target <= 2 * 2304' "$scratch/run")"
ids=$(jq -r '.prompt_tokens + .tokens | join(",")' "$scratch/run")
"$volley" logits -m $models/mistral.gguf --ids "$ids" --top 1 >"$scratch/logits"
check_equal 'it is the text that its logits say when it is read as a prompt' '[]' \
    "$(jq -sc --slurpfile run "$scratch/run" '$run[0] as $r | ($r.prompt_tokens | length) as $n
        | [range($r.tokens | length) as $i
           | select(.[$n - 1 + $i].top[0][0] != $r.tokens[$i]) | $i]' "$scratch/logits")"
for draft in '--draft-method ngram --draft-max 16' "-d $models/qwen3.gguf --draft-max 3"; do
    # shellcheck disable=SC2086 # options
    check_exit "the same text with $draft" 0 "$volley" verify -m $models/mistral.gguf -p "$prompt" -n 150 \
        --seed 1 --temp 0.5 --ignore-eos $draft
done
check_exit 'a draft with a window' 0 "$volley" verify -m $models/qwen2.gguf -d $models/mistral.gguf \
    -p "$prompt" -n 100 --seed 2 --ignore-eos
check_exit 'a described target and a draft of a known family' 0 "$volley" verify --arch $described \
    -m $models/described.gguf -d $models/llama-yarn.gguf -p "$prompt" -n 60 --seed 3 --ignore-eos

# ---- descriptions ----

check_exit 'an architecture that nobody described' 1 "$volley" run -m $models/described.gguf -p Once
check_match 'it is named, and those that there are' \
    "architecture 'described' is not supported; expected one of: llama, .*qwen3.*--arch" "$err"
check_match 'inspect says so too' 'does not run.*described' \
    "$("$volley" inspect $models/described.gguf | tr '\n' ' ')"
check_match 'inspect knows a described one' 'runs this model' \
    "$("$volley" inspect --arch $described $models/described.gguf | tr '\n' ' ')"
refuses() { # NAME JSON PATTERN
    printf '%s' "$2" >"$scratch/arch.json"
    check_exit "$1: exit status 1" 1 \
        "$volley" run --arch "$scratch/arch.json" -m $models/qwen2.gguf -p Once -n 2
    check_match "$1: why" "^volley: error: .*arch.json: .*$3" "$err"
}
refuses 'a description that is no JSON' '{"name":' 'expected one JSON value'
refuses 'an unknown key' '{"name":"x","rope":"pairs","layers":2}' "unknown key 'layers'"
refuses 'a wrong type' '{"name":"x","rope":"pairs","norms":true}' "key 'norms': expected \"pre\" or \"post\""
refuses 'a missing key' '{"name":"x"}' "key 'rope' is missing"
check_exit 'a description that is not there' 1 "$volley" logits --arch "$scratch/none" -m $models/qwen2.gguf -p a
check_match 'a description that is not there: why' 'cannot open .*none' "$err"

# ---- tensors ----

# A tensor under another name is missing, and one too many.
sed 's/blk\.1\.ffn_norm/blk.1.ffn_nerm/' $models/qwen3.gguf >"$scratch/renamed.gguf"
check_exit 'a tensor that is missing' 1 "$volley" run -m "$scratch/renamed.gguf" -p Once
check_match 'both are named' "1 tensor is missing: blk\.1\.ffn_norm\.weight; 1 tensor .*'blk\.1\.ffn_nerm" "$err"
check_match 'inspect names it' 'does not run.*missing: blk\.1\.ffn_norm' \
    "$("$volley" inspect "$scratch/renamed.gguf" | tr '\n' ' ')"
check_equal 'inspect tells how many bytes it would take, without matrix units and with them' \
    '3961241600 4965708800' \
    "$("$volley" inspect --json synthetic:mistral-7b:iq3_s | jq -r '.memory | "\(.weights) \(.weights_tiled)"')"
# Biases of a family that has none.
sed 's/qwen2/qwen3/g' $models/qwen2.gguf >"$scratch/renamed.gguf"
check_exit 'the norms that another family needs' 1 "$volley" run -m "$scratch/renamed.gguf" -p Once
check_match 'they are named' '4 tensors are missing: blk\.0\.attn_q_norm\.weight' "$err"
printf '{"name":"qwen2","rope":"halves","biases":{"attn_q":"required"}}' >"$scratch/arch.json"
check_exit 'tensors that a description has not' 1 \
    "$volley" run --arch "$scratch/arch.json" -m $models/qwen2.gguf -p Once
check_match 'they are named too' "4 tensors that architecture qwen2 does not have: 'blk\.0\.attn_k\.bias'" \
    "$err"
