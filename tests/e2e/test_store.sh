#!/usr/bin/env bash
# Names in place of paths, in a store like Ollama's that this test makes.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/serve_lib.sh"
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

# ---- what the store recommends ----

printf '{"temperature":0,"num_predict":9,"num_ctx":64,"stop":["little girl"],"top_k":-3}' \
    >"$scratch/params"
printf '{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}<|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n' \
    >"$scratch/template"
printf 'Be brief.' >"$scratch/system"
manifest registry.ollama.ai/library/full/latest "$(layer model $target),$(layer params \
    "$scratch/params"),$(layer template "$scratch/template"),$(layer system "$scratch/system")"
check_exit 'parameters are defaults' 0 "$volley" run -m full -p 'Once upon a time' --json
check_equal 'parameters are defaults: num_predict, a stop string' ', there was a ' \
    "$(jq -r .text "$scratch/out")"
check_match 'parameters are defaults: one that is none' 'warning: store: parameter top_k' "$err"
check_exit 'options come before parameters' 0 \
    "$volley" run -m full -p 'Once upon a time' -n 3 --json
check_equal 'options come before parameters: -n' 3 "$(jq '.tokens | length' "$scratch/out")"
text1=$("$volley" run -m full -p Once --seed 1 2>"$scratch/err")
text2=$("$volley" run -m full -p Once --seed 2 2>"$scratch/err")
check_equal 'parameters are defaults: temperature 0' "$text1" "$text2"
yes 'once upon a time' | head -n 30 >"$scratch/long"
check_exit 'parameters are defaults: num_ctx' 1 "$volley" run -m full -f "$scratch/long"
check_match 'parameters are defaults: num_ctx' 'the context of 64' "$err"
check_exit 'options come before parameters: -c' 0 "$volley" run -m full -f "$scratch/long" -c 256
spelled=$'<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n'
check_exit 'the template and the system message are defaults' 0 \
    "$volley" run -m full --chat -p Hello -n 1 -c 256 --json
check_equal 'the template and the system message are defaults: the prompt' \
    "$("$volley" tokenize -m $target --bos --parse-special -p "$spelled" | wc -w)" \
    "$(jq '.prompt_tokens | length' "$scratch/out")"
check_exit 'a system message of the user' 0 \
    "$volley" run -m full --chat --system 'Be very brief.' -p Hello -n 1 -c 256 --json
check_equal 'a system message of the user: the prompt' \
    "$("$volley" tokenize -m $target --bos --parse-special -p "${spelled/Be/Be very}" | wc -w)" \
    "$(jq '.prompt_tokens | length' "$scratch/out")"
start_server -m full -d none
request /v1/completions '{"prompt": "Once upon a time", "temperature": 0, "max_tokens": 20}'
check_equal "the server: the store's stop string" '200 stop , there was a ' \
    "$code $(jq -r '.choices[0] | "\(.finish_reason) \(.text)"' <<<"$out")"
request /v1/completions '{"prompt": "Once upon a time", "temperature": 0, "max_tokens": 20, "stop": "was"}'
check_equal "the server: a request's own stop string" ', there ' "$(jq -r '.choices[0].text' <<<"$out")"
request /apply-template '{"messages": [{"role": "user", "content": "Hello"}]}'
check_equal 'the server: the template and the system message' "$spelled" "$(jq -r .prompt <<<"$out")"$'\n'
request /props
check_equal 'the server: the context' 64 "$(jq .default_generation_settings.n_ctx <<<"$out")"
stop_server
printf '{{ .Prompt }}' >"$scratch/template"
manifest registry.ollama.ai/library/odd/latest \
    "$(layer model $target),$(layer template "$scratch/template")"
check_exit 'a template of no known family' 1 "$volley" run -m odd --chat -p Hello -n 1
check_match 'a template of no known family: how to give one' 'known family.*--chat-template' "$err"
check_exit 'a template of no known family, without a conversation' 0 \
    "$volley" run -m odd -p Hello -n 1

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

mkdir -p "$scratch/folders/stories" "$scratch/folders/storeis"
check_exit 'a folder called as a model is' 0 \
    env -C "$scratch/folders" "$volley" run -m stories -p Once -n 2
check_exit 'a folder called as no model is' 1 \
    env -C "$scratch/folders" "$volley" run -m storeis -p Once -n 2
check_match 'a folder called as no model is: why' 'storeis: expected a GGUF file, got a directory' "$err"
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
manifest registry.ollama.ai/library/gone/latest \
    "$(layer model $target),$(sed 's/image.model/image.params/; s/sha256:..../sha256:0000/; s/size":[0-9]*/size":9/' \
        <<<"$cut_layer")"
refuses 'parameters whose blob is gone' 'expected the blob .*missing' run -m gone -p Once
check_match 'the list says so too' 'gone/latest: expected the blob .*missing' \
    "$("$volley" models --json | jq -r '.models[] | select(.name == "gone:latest") | .problem')"
manifest registry.ollama.ai/library/capitals/latest "$(layer model $target |
    sed 's/sha256:[0-9a-f]*/\U&/; s/SHA256/sha256/')"
check_exit 'a digest in capitals' 0 "$volley" run -m capitals -p Once -n 2
ln -s /nonexistent "$store/manifests/registry.ollama.ai/library/capitals/dangling"
refuses 'a manifest that is a link to nowhere' 'capitals/dangling: No such file' \
    run -m capitals:dangling -p Once
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
