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

n_cases=0
while read -r case; do
    n_cases=$((n_cases + 1))
    name=$(jq -r .model <<<"$case")
    ids=$(jq -r '.ids | join(",")' <<<"$case")
    for kv in f16 int8; do
        # int8 keys and values are rounded to 1 part in 254 of their largest.
        limit=0.02
        [ $kv = int8 ] && limit=0.3
        "$volley" logits -m "$models/$name.gguf" --arch $described --ids "$ids" --kv $kv --top 288 \
            >"$scratch/logits" 2>"$scratch/err"
        far=$(jq -s --argjson case "$case" "$difference" "$scratch/logits" 2>&1)
        if jq -en "$far < $limit" >/dev/null 2>&1; then
            pass "$name, $kv: logits within $limit"
        else
            fail "$name, $kv: logits within $limit" "largest difference: $far"$'\n'"$(cat "$scratch/err")"
        fi
    done
done < <(jq -c '.[]' $models/logits.json)
check_equal 'every model was looked at' "$(ls $models/*.gguf | wc -l)" $n_cases
