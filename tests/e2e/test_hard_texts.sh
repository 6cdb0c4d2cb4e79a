#!/usr/bin/env bash
# Text that two vocabularies spell differently, or one of them not at all: with every way to draft
# the same text as without, and the draft goes on proposing where it can.
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 1
target=models/stories15M-q8_0.gguf
draft=models/smol-stories-11M-q8_0.gguf

# NAME, then the text as printf's %b takes it.
texts=(
    'emoji' 'A \xf0\x9f\x90\xb1 and a \xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7'
    'Chinese' '\xe4\xbb\x8e\xe5\x89\x8d\xe6\x9c\x89\xe5\xba\xa7\xe5\xb1\xb1'
    'accents' 'Le gar\xc3\xa7on a mang\xc3\xa9 une p\xc3\xaache \xc3\xa0 No\xc3\xabl'
    'combining accents' 'cafe\xcc\x81 nai\xcc\x88ve'
    'tabs and runs of spaces' 'a\t\tb      c \t  d\t'
    'runs of newlines' 'One.\n\n\n\nTwo.\r\n\r\n \n'
    'code' 'int main(void)\n{\n    for (int i = 0; i < 10; i++) {\n        x[i] += 0x1F;\n'
    'numbers' '1234567890 3.14159 12,000'
    'bytes that the draft cannot spell' 'a\x04b\x06\xf5\xc0\xc1 and'
    'control tokens as text' '<s>Once</s> <|endoftext|> <|im_start|>user'
    'a prompt that ends inside a character' 'the caf\xc3'
    'a prompt that ends inside an emoji' 'the \xf0\x9f\x90'
    'a zero byte' 'one\x00two'
    'a word cut short' 'Once upon a ti'
    'a space at the end' 'Once upon a time '
)
methods=$(sed -n 's/^VLY_DRAFT_METHOD([A-Z]*, "\([a-z]*\)".*/\1/p' drafts/methods.def | grep -v none)
check 'methods are listed' test "$(wc -w <<<"$methods")" -ge 4

for ((i = 0; i < ${#texts[@]}; i += 2)); do
    name=${texts[i]}
    printf %b "${texts[i + 1]}" >"$scratch/prompt"
    for options in '--temp 0' '--temp 1.2 --top-p 1 --seed 5'; do
        # shellcheck disable=SC2086 # options
        "$volley" run --json -m $target -d none -f "$scratch/prompt" -n 24 --ignore-eos $options |
            jq -c '[.prompt_tokens, .tokens, .text]' >"$scratch/plain"
        for method in $methods; do
            if [ "$method" = ngram ]; then pair=(-m $target); else pair=(-m $target -d $draft); fi
            # shellcheck disable=SC2086 # options
            "$volley" run --json "${pair[@]}" -f "$scratch/prompt" -n 24 --ignore-eos $options \
                --draft-method "$method" >"$scratch/drafted"
            check_equal "$name, $method, $options: the same text" "$(cat "$scratch/plain")" \
                "$(jq -c '[.prompt_tokens, .tokens, .text]' "$scratch/drafted")"
            case $method in auto | ngram) continue ;; esac
            check "$name, $method, $options: something was drafted" \
                jq -e '.stats.drafted > 0' "$scratch/drafted"
        done
    done
    # The other way round: a SentencePiece draft for a byte-level target.
    "$volley" run --json -m $draft -d none -f "$scratch/prompt" -n 16 --seed 6 --ignore-eos |
        jq -c .tokens >"$scratch/plain"
    "$volley" run --json -m $draft -d $target -f "$scratch/prompt" -n 16 --seed 6 --ignore-eos \
        --draft-method model 2>"$scratch/log" >"$scratch/drafted"
    check_equal "$name, drafted by SentencePiece: the same text" "$(cat "$scratch/plain")" \
        "$(jq -c .tokens "$scratch/drafted")"
done

# Control tokens that are meant as such.
for prompt in '<s>Once</s>' '</s>'; do
    check "'$prompt' parsed: identical" "$volley" verify -p "$prompt" --parse-special -n 16 --seed 7 \
        --ignore-eos
done
