#!/usr/bin/env bash
# Broken models, absurd sizes, a broken environment: an error that says what is wrong, and exit
# status 1.
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 1
target=models/stories15M-q8_0.gguf
draft=models/smol-stories-11M-q8_0.gguf
broken=$scratch/broken.gguf

refuses() { # NAME PATTERN OPTION...
    local name=$1 pattern=$2
    shift 2
    check_exit "$name: exit status 1" 1 "$volley" run -p Once -n 4 "$@"
    check_match "$name: why" "^volley: error: .*$pattern" "$err"
    check_equal "$name: no text" '' "$out"
}

# ---- models ----

# overwrite FILE OFFSET BYTES...: decimal bytes.
overwrite() {
    local file=$1 at=$2
    shift 2
    # shellcheck disable=SC2046,SC2059 # bytes as octal escapes
    printf "$(printf '\\%03o' "$@")" | dd of="$file" bs=1 seek="$at" conv=notrunc status=none
}
# The place behind the first occurrence of a text: of a key's type or a tensor's shape.
behind() { # FILE TEXT
    echo $(($(LC_ALL=C grep -obUaF -m 1 -- "$2" "$1" | head -n 1 | cut -d: -f1) + ${#2}))
}
le32() { echo $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)); }
# set_number FILE OUT KEY VALUE: the file with another value of a 32-bit key.
set_number() {
    cp "$1" "$2"
    # shellcheck disable=SC2046 # bytes
    overwrite "$2" $(($(behind "$1" "$3") + 4)) $(le32 "$4")
}

for n in 0 3 7 24 1000 500000 8000000 16879519; do
    head -c $n $target >"$broken"
    refuses "a target of $n bytes" "$broken: .*expected" -m "$broken"
done

# Behind the name: the number of dimensions, the columns, the rows.
cp $target "$broken"
# shellcheck disable=SC2046 # bytes
overwrite "$broken" $(($(behind $target token_embd.weight) + 12)) $(le32 31000)
refuses 'more tokens than rows of the embedding' '32000 tokens .*31000 rows' -m "$broken"
check_match 'more tokens than rows of the embedding: inspect says so' 'does not run' \
    "$("$volley" inspect "$broken" | tr '\n' ' ')"
refuses 'the same of a draft' 'draft: .*32000 tokens .*31000 rows' -d "$broken"

# One scale that is no number, in the middle of a tensor; one weight of a norm.
broken_tensor() { # NAME OFFSET BYTES...: of the target
    local at
    cp $target "$broken"
    at=$("$volley" inspect --json $target | jq ".tensors[] | select(.name == \"$1\") | .offset")
    overwrite "$broken" $((at + $2)) "${@:3}"
}
broken_tensor blk.2.ffn_gate.weight $((1000 * 34)) 1 126
refuses 'a scale that is NaN' \
    "$broken: tensor 'blk.2.ffn_gate.weight': .*finite.* at weight 32000 .*weights are broken" \
    -m "$broken"
refuses 'the same of a draft' "draft: $broken: tensor 'blk.2.ffn_gate.weight'" -d "$broken"
broken_tensor token_embd.weight $((31999 * 288 / 32 * 34)) 0 252
refuses 'a scale that is infinite, in the last row' "tensor 'token_embd.weight'" -m "$broken"
broken_tensor blk.0.attn_norm.weight 40 0 0 128 127
refuses 'a norm that is infinite' "tensor 'blk.0.attn_norm.weight': .*at weight 10 " -m "$broken"

# Weights so large that the logits are no numbers: found by the pick.
# shellcheck disable=SC2046 # bytes
broken_tensor output_norm.weight 0 $(yes '255 255 127 127' | head -n 288)
for options in '--temp 0' '--temp 1 --top-p 1' '--top-k 5' '--min-p 0.1' '-d '$draft; do
    # shellcheck disable=SC2086 # options
    refuses "logits that are no numbers, $options" 'weights are broken' -m "$broken" $options
done
check_exit 'a draft whose logits are no numbers drafts nothing of use' 0 \
    "$volley" verify -m $target -d "$broken" -p Once -n 12 --seed 1

# ---- contexts and memory ----

prompt=$(printf 'dog %.0s' {1..60})
n=$("$volley" tokenize -m $target --bos -p "$prompt" | wc -w)
for more in -1 0; do
    check_exit "a context of the prompt's length $more" 1 \
        "$volley" run -p "$prompt" -c $((n + more)) -n 4
    check_match "a context of the prompt's length $more: both numbers" \
        "has $n tokens; the context of $((n + more)) has room for $((n + more - 1))" "$err"
done
for k in 0 4 16; do
    check_exit "a context with room for one token, $k drafted" 0 \
        "$volley" run -p "$prompt" -c $((n + 1)) --draft-method model --draft-max $k --seed 1 --json --ignore-eos
    check_equal "a context with room for one token, $k drafted: it is used" '1 length' \
        "$(jq -r '"\(.tokens | length) \(.finish_reason)"' "$scratch/out")"
done
yes 'once upon a time' | head -c 100000 >"$scratch/long"
check_exit 'a prompt of 100 kB' 1 "$volley" run -f "$scratch/long" -c 256
check_match 'a prompt of 100 kB: both numbers' 'has 100000 bytes; the context of 256 tokens' "$err"

# 16 million tokens take 55 GB in 8 bits, and the draft as much again.
set_number $target "$broken" llama.context_length 16000000
set_number $draft "$scratch/draft.gguf" llama.context_length 16000000
if "$volley" devices --json | jq -e 'any(.devices[].available_bytes; . > 5e10)' >/dev/null; then
    skip 'a context beyond the memory' 'the device has room for it'
else
    refuses 'a context beyond the memory' \
        '[0-9.]+ MiB of device memory are needed and .* has [0-9.]+ .*16000000 tokens.*; a context of [0-9]+ tokens would fit' \
        -m "$broken" -c 16000000 -d "$scratch/draft.gguf"
    fits=$(sed -n 's/.*a context of \([0-9]*\) tokens would fit.*/\1/p' <<<"$err")
    # Other programs may take memory, or give some back, between one run and the next.
    check_exit 'a context that would fit does' 0 \
        "$volley" run -m "$broken" -d "$scratch/draft.gguf" -c $((fits * 9 / 10)) -p Once -n 4
    check_exit 'a context that nobody asked for shrinks' 0 \
        "$volley" run -m "$broken" -d "$scratch/draft.gguf" -p Once -n 4
    shrunk=$(sed -n 's/.*warning.*from 16000000 to \([0-9]*\) tokens.*/\1/p' <<<"$err")
    check "a context that nobody asked for shrinks: to what fits, $fits tokens and now $shrunk" \
        test $((shrunk * 10)) -ge $((fits * 9)) -a $((shrunk * 9)) -le $((fits * 10))
fi

# ---- the environment ----

for variable in VK_DRIVER_FILES VK_ICD_FILENAMES; do export $variable=/nonexistent; done
refuses 'no Vulkan driver' 'install.*mesa-vulkan-drivers'
check_exit 'devices without a Vulkan driver' 1 "$volley" devices
unset VK_DRIVER_FILES VK_ICD_FILENAMES

for cache in /dev/null /proc/none relative; do
    check_exit "a cache in $cache" 0 env -C "$scratch" XDG_CACHE_HOME=$cache "$volley" run -p Once -n 4 --seed 1
done
check_exit 'no home' 0 env -u HOME -u XDG_CACHE_HOME "$volley" run -p Once -n 4 --seed 1

closed() { # NAME PATTERN REDIRECTION ARGUMENT...
    local name=$1 pattern=$2 redirection=$3 status=0
    shift 3
    eval '"$volley" "$@" 2>"$scratch/err"' "$redirection" || status=$?
    check_equal "$name: exit status 1" 1 $status
    check_match "$name: why" "$pattern" "$(cat "$scratch/err")"
}
closed 'standard output closed' 'cannot write to standard output' '>&-' run -p Once -n 4
closed 'standard output closed, JSON' 'cannot write to standard output' '>&-' \
    run -p Once -n 4 --json
closed 'standard output closed, logits' 'cannot write to standard output' '>&-' \
    logits -m $target -p Once
closed 'standard input closed' 'cannot read standard input' '<&-' run -n 4
check 'all streams closed: no crash' sh -c '"$1" run -p Once -n 4 <&- >&- 2>&-; test $? = 1' sh "$volley"
check 'standard error closed' sh -c '"$1" run -p Once -n 4 2>&-' sh "$volley"
