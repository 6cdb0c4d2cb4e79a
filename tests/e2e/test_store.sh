#!/usr/bin/env bash
# Names in place of paths, in a store like Ollama's that this test makes.
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 1
target=models/stories15M-q8_0.gguf
draft=models/smol-stories-11M-q8_0.gguf
store=$scratch/store
export OLLAMA_MODELS=$store HOME=$scratch/home
unset VOLLEY_MODELS

digest() { sha256sum "$1" | cut -c 1-64; }
# layer TYPE FILE: puts the file among the blobs and prints its layer.
layer() {
    local digest
    digest=$(digest "$2")
    mkdir -p "$store/blobs"
    [ -e "$store/blobs/sha256-$digest" ] || cp "$2" "$store/blobs/sha256-$digest"
    printf '{"mediaType":"application/vnd.ollama.image.%s","digest":"sha256:%s","size":%s}' \
        "$1" "$digest" "$(stat -c %s "$2")"
}
# manifest PATH LAYERS
manifest() {
    mkdir -p "$(dirname "$store/manifests/$1")"
    printf '{"schemaVersion":2,"layers":[%s]}' "$2" >"$store/manifests/$1"
}
manifest registry.ollama.ai/library/stories/15m "$(layer model $target)"
manifest registry.ollama.ai/library/stories/latest "$(layer model $target)"
manifest hf.co/org/Smol-Stories-GGUF/Q8_0 "$(layer model $draft)"

# ---- every command takes names ----

text=$("$volley" run -m $target -p 'Once upon a time' -n 20 --temp 0 2>"$scratch/err")
for name in stories stories:15m library/stories Stories registry.ollama.ai/library/stories:latest; do
    check_exit "run -m $name" 0 "$volley" run -m $name -p 'Once upon a time' -n 20 --temp 0
    check_equal "run -m $name: the text of the file" "$text" "$out"
done
check_exit 'verify with a target and a draft by name' 0 \
    "$volley" verify -m stories -d hf.co/org/Smol-Stories-GGUF:Q8_0 -p Once -n 20 --seed 1 --json
check_equal 'verify with a target and a draft by name: drafts are accepted' true \
    "$(jq '.acceptance_rate > 0.1' "$scratch/out")"
check_equal 'tokenize' "$("$volley" tokenize -m $target -p 'Once upon')" \
    "$("$volley" tokenize -m stories -p 'Once upon')"
check_equal 'logits' "$("$volley" logits -m $target -p Once)" "$("$volley" logits -m stories -p Once)"
check_equal 'inspect' "$store/blobs/sha256-$(digest $target)" \
    "$("$volley" inspect --json stories | jq -r .file)"
check_exit 'a shipped model by its name' 0 \
    "$volley" run -m stories15M-q8_0 -d smol-stories-11M-q8_0 -p Once -n 4
mkdir -p "$scratch/own/deep"
ln -s "$root/$target" "$scratch/own/deep/mine.gguf"
VOLLEY_MODELS=$scratch/own check_exit 'a file of $VOLLEY_MODELS' 0 \
    "$volley" run -m deep/mine -p Once -n 4

# ---- what is not there ----

refuses() { # NAME PATTERN COMMAND...
    local name=$1 pattern=$2
    shift 2
    check_exit "$name: exit status 1" 1 "$volley" "$@"
    check_match "$name: why" "^volley: error: .*$pattern" "$err"
}
refuses 'a misspelt name' "storeis: .*near ones are 'stories:15m', 'stories:latest'" \
    run -m storeis -p Once
refuses 'a misspelt draft' "draft: .*near ones are 'hf.co/org/Smol-Stories-GGUF:Q8_0'" \
    run -m stories -d hf.co/org/Smol-Stories-GUFF:Q8_0 -p Once
refuses 'a misspelt name, tokenize' "near ones" tokenize -m stories:16m -p Once
refuses 'a name like no other' "no model of that name in .*$store" run -m zzzzzzzzz -p Once
refuses 'a path' '\./stories: No such file or directory$' run -m ./stories -p Once
refuses 'no name' 'empty' run -m '' -p Once
for name in ../stories library/../stories 'stories:../latest' 'hf.co/../../etc/passwd' 'a b'; do
    refuses "a trick: $name" 'No such file or directory' run -m "$name" -p Once
done

mkdir "$scratch/here"
cp tests/data/tokenizers/mistral-v0.1.gguf "$scratch/here/stories"
check_exit 'what exists as a path is one' 1 env -C "$scratch/here" "$volley" run -m stories -p Once
check_match 'what exists as a path is one: a vocabulary only' 'error: stories: key .llama.block_count. is missing' "$err"

# ---- stores that are broken ----

head -c 1000000 $target >"$scratch/cut"
cut_layer=$(layer model "$scratch/cut")
manifest registry.ollama.ai/library/cut/latest "$cut_layer"
refuses 'a model that was cut' 'cut|truncated' run -m cut -p Once
manifest registry.ollama.ai/library/short/latest \
    "$(sed "s/\"size\":[0-9]*/\"size\":$(stat -c %s $target)/" <<<"$cut_layer")"
refuses 'a model of another size than its manifest says' \
    "expected $(stat -c %s $target) bytes by its manifest, got 1000000" run -m short -p Once
manifest registry.ollama.ai/library/gone/latest \
    "$(sed 's/sha256:..../sha256:0000/' <<<"$cut_layer")"
refuses 'a model whose blob is gone' 'expected the blob .*missing' run -m gone -p Once
manifest registry.ollama.ai/library/trick/latest \
    "$(sed 's|sha256:[0-9a-f]*|sha256:../../../../../../etc/passwd|' <<<"$cut_layer")"
refuses 'a digest that is a path' 'model layer: digest: expected' run -m trick -p Once
manifest registry.ollama.ai/library/lora/latest \
    "$(layer model $target),$(layer adapter "$scratch/cut")"
refuses 'an adapter' 'adapter' run -m lora -p Once
manifest registry.ollama.ai/library/none/latest "$(layer license LICENSE)"
refuses 'no model' 'found none' run -m none -p Once
for text in '' '{' '[[[[' '{"layers":7}' '<html>' $'\xff\xfe'; do
    printf '%s' "$text" >"$store/manifests/registry.ollama.ai/library/none/latest"
    refuses "a manifest of '$(tr -d '\200-\377' <<<"$text")'" 'library/none/latest: expected' \
        run -m none -p Once
done
head -c 3000000 /dev/zero | tr '\0' '[' >"$store/manifests/registry.ollama.ai/library/none/latest"
refuses 'a manifest of 3 MB' 'at most 1048576 bytes' run -m none -p Once
