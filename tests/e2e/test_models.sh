#!/usr/bin/env bash
# volley models: what is found, and what would do as a draft.
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 1
export OLLAMA_MODELS=$scratch/store HOME=$scratch/home VOLLEY_MODELS=$scratch/own

mkdir -p "$scratch/own/publisher/a-repository-with-a-name-longer-than-the-column-of-names" \
    "$scratch/store/blobs" "$scratch/store/manifests/registry.ollama.ai/library/stories"
cp tests/models/stories15M-q4_0.gguf "$scratch/own/small.gguf"
cp models/smol-stories-11M-q8_0.gguf \
    "$scratch/own/publisher/a-repository-with-a-name-longer-than-the-column-of-names/smol.gguf"
cp tests/data/tokenizers/mistral-v0.1.gguf "$scratch/own/vocabulary.gguf"
head -c 5000000 models/stories15M-q8_0.gguf >"$scratch/own/cut.gguf"
sed 's/smollm/smollx/g' models/smol-stories-11M-q8_0.gguf >"$scratch/own/cutter.gguf"
cp tests/data/archs/described.gguf "$scratch/own/described.gguf"
printf 'GGUF' >"$scratch/own/"$'control\x1b[31m.gguf'
digest=$(sha256sum models/stories15M-q8_0.gguf | cut -c 1-64)
cp models/stories15M-q8_0.gguf "$scratch/store/blobs/sha256-$digest"
printf '{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:%s","size":%s}]}' \
    "$digest" "$(stat -c %s models/stories15M-q8_0.gguf)" \
    >"$scratch/store/manifests/registry.ollama.ai/library/stories/15m"
printf '{}' >"$scratch/store/manifests/registry.ollama.ai/library/stories/broken"

# ---- the list ----

check_exit 'the list' 0 "$volley" models
list=$out
check_match 'the list: a file' '^small +llama +15\.2 M +q4_0 +8\.86 MiB +32000 +llama$' "$list"
check_match 'the list: of Ollama' '^stories:15m +llama +15\.2 M +q8_0 +16\.1 MiB +32000 +llama$' \
    "$list"
check_match 'the list: of the shipped pair' '^smol-stories-11M-q8_0 +llama +10\.6 M +q8_0' "$list"
check_match 'the list: a vocabulary' '^  does not run: it has a vocabulary only$' "$list"
check_match 'the list: a file that was cut' "does not run: tensor 'token_embd.weight': .* but the file has 5000000" \
    "$(tr -s '\n ' ' ' <<<"$list")"
check_match 'the list: a broken manifest' 'does not run: .*/broken: expected a manifest' \
    "$(tr -d '\n' <<<"$list" | tr -s ' ')"
check_match 'the list: a tokenizer that does not work' \
    "does not run: tokenizer.ggml.pre is 'smollx'; the pre-tokenizers that work are smollm" \
    "$(tr -s '\n ' ' ' <<<"$list")"
check_match 'inspect says so too' "does not run this model.*: tokenizer.ggml.pre is 'smollx'" \
    "$("$volley" inspect cutter | tr '\n' ' ')"
check_equal 'the list: no control characters' '' "$(grep $'\x1b' <<<"$list")"
widest() { awk '{ if (length($0) > n) n = length($0) } END { print n <= 100 }' <<<"$1"; }
check_equal 'the list: at most 100 columns' 1 "$(widest "$list")"
check_equal 'the list: no blanks at the end of a line' '' "$(grep ' $' <<<"$list")"

check_exit 'JSON' 0 "$volley" models --json
check_equal 'JSON: names and where they are from' \
    'VOLLEY_MODELS small,ollama stories:15m,ollama stories:broken,shipped stories15M-q8_0' \
    "$(jq -r '[.models[] | select(.name | test("stories[:1]|small")) | "\(.source) \(.name)"]
        | sort | join(",")' "$scratch/out")"
check_equal 'JSON: a model' '["llama",15191712,"q4_0",32000,"llama",true,null]' \
    "$(jq -c '.models[] | select(.name == "small") | [.architecture, .parameters, .format,
        .vocabulary, .tokenizer, .runs, .problem]' "$scratch/out")"
check_match 'JSON: a broken manifest' "expected a manifest" \
    "$(jq -r '.models[] | select(.name == "stories:broken") | .problem' "$scratch/out")"
# shellcheck disable=SC2034 # read by the loop
names=$(jq -r '.models[] | select(.runs) | .name' "$scratch/out")
for name in $names; do
    check_exit "-m $name" 0 "$volley" run -m "$name" -p Once -n 2
done

# ---- drafts ----

check_exit 'drafts' 0 "$volley" models --for stories:15m
check_match 'drafts: for what' '^Drafts for stories:15m \(15\.2 M parameters, 32000 tokens\):$' "$out"
check_match 'drafts: the shipped draft' \
    '^smol-stories-11M-q8_0 +10\.6 M +1\.4 x +[0-9]+ of 49152 +[0-9.]+% +[0-9.]+% +0\.[0-9]{3}$' "$out"
check_match 'drafts: a verdict' '^  fair: .*pay from a mean accepted length of 2\.[0-9]+$' "$out"
check_match 'drafts: the target' '^  no: it is the target itself$' "$out"
check_match 'drafts: what does not run' '^  no: Volley does not run it: it has a vocabulary only$' "$out"
check_equal 'drafts: at most 100 columns' 1 "$(widest "$out")"

check_exit 'drafts, JSON' 0 "$volley" models --for stories:15m --json
cp "$scratch/out" "$scratch/json"
check_equal 'drafts, JSON: the same vocabulary' '[true,32000,1,1]' \
    "$(jq -c '.models[] | select(.name == "small").draft
        | [.same_vocabulary, .shared_tokens, .text_bytes_share, .text_tokens_share]' "$scratch/json")"
check_equal 'drafts, JSON: best first' true \
    "$(jq '[.models[].draft.verdict] | map({good: 0, fair: 1, poor: 2, no: 3}[.]) | . == sort' \
        "$scratch/json")"
check_equal 'drafts, JSON: the target' '["stories:15m",32000]' \
    "$(jq -c '[.target.name, .target.vocabulary]' "$scratch/json")"

# The draft has tokens for runs of newlines, the target has not.
printf '\n\n\n\n' >"$scratch/newlines"
printf 'Once upon a time there was a dog.' >"$scratch/english"
for text in english newlines; do
    check_exit "a sample of one's own, $text" 0 \
        "$volley" models --for stories15M-q8_0 --text "$scratch/$text" --json
    jq '[.models[] | select(.name == "smol-stories-11M-q8_0")][0].draft.text_bytes_share' \
        "$scratch/out" >"$scratch/$text.share"
done
check_equal "a sample of one's own: all of one and nothing of the other" '1 0' \
    "$(cat "$scratch/english.share") $(cat "$scratch/newlines.share")"

# ---- a described architecture ----

check_exit 'a described architecture' 0 "$volley" models --arch tests/data/archs/described.json --json
check_equal 'a described architecture: it runs' 'true' \
    "$(jq '.models[] | select(.name == "described") | .runs' "$scratch/out")"
check_exit 'a described target' 0 \
    "$volley" models --arch tests/data/archs/described.json --for described
check_match 'a described target: its drafts' '^Drafts for described \(130 K' "$out"
check_exit 'a described target that nobody describes' 1 "$volley" models --for described
check_exit 'a description that is not there' 1 "$volley" models --arch "$scratch/nothing"

# ---- wrong usage, nothing there ----

check_exit 'a target that is not there' 1 "$volley" models --for storeis
check_match 'a target that is not there: near ones' 'near ones are .*stories' "$err"
check_exit 'a target without tensors' 1 "$volley" models --for vocabulary
check_exit 'an empty sample' 1 "$volley" models --for small --text /dev/null
check_exit 'a sample that is not there' 1 "$volley" models --for small --text "$scratch/nothing"
check_exit '--text without --for' 2 "$volley" models --text "$scratch/english"
check_exit 'an argument' 2 "$volley" models x
VOLLEY_MODELS=/nonexistent OLLAMA_MODELS=/dev/null check_exit 'places that are none' 0 "$volley" models
check_equal 'places that are none: only the shipped pair' 2 "$(grep -c llama <<<"$out")"
