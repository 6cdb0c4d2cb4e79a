#!/usr/bin/env bash
# Logits and greedy continuations of the test models against a float64 reference, through the program:
# tests/data/golden/logits.json.
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 1

# What differs by more than rounding may explain, a line each. $case is the reference; $near and
# $near_lse bound the errors of logits and of their log-sum-exp; $gap is how far the reference's best
# token must lead for it to be the best here. The lines are those of the prompt followed by the
# reference's greedy text, in which the next token is the best one.
compare_logits='
def far($a; $b; $limit): $a == null or ($a - $b | fabs) > $limit;
def compare_position($pos; $got; $want):
    ($got.top | map({key: .[0] | tostring, value: .[1]}) | from_entries) as $logit
    | ($want.top[] | . as [$id, $value] | select(far($logit[$id | tostring]; $value; $near))
       | "position \($pos), token \($id): expected \($value), got \($logit[$id | tostring])"),
      (select(far($got.lse; $want.lse; $near_lse))
       | "position \($pos): expected lse \($want.lse), got \($got.lse)"),
      (select(far($got.mean; $want.mean; $near))
       | "position \($pos): expected mean \($want.mean), got \($got.mean)");
def compare_best($pos; $got; $id; $margin):
    select($margin > $gap and $got.top[0][0] != $id)
    | "position \($pos): expected \($id), leading by \($margin), got \($got.top[0])";
. as $lines | ($case.ids | length) as $n_ids
| if map(.id) != ($case.ids + $case.greedy)[:length] or map(.pos) != [range(length)]
     or length != $n_ids + ($case.greedy | length) - 1
  then "not the positions that were asked for" else empty end,
  (range($n_ids) as $pos | $case.positions[$pos] as $want
   | compare_position($pos; $lines[$pos]; $want),
     compare_best($pos; $lines[$pos]; $want.top[0][0]; $want.top[0][1] - $want.top[1][1])),
  (range($case.greedy | length) as $i | ($n_ids - 1 + $i) as $pos
   | compare_best($pos; $lines[$pos]; $case.greedy[$i]; $case.greedy_margin[$i]))'

# The same of a greedy text: as many tokens as the program was asked for.
compare_greedy='
(if .prompt_tokens != $case.ids
 then "expected the prompt \($case.ids), got \(.prompt_tokens)" else empty end),
(if .tokens != $case.greedy[:$n] then "expected \($case.greedy[:$n]), got \(.tokens)" else empty end)'

n_cases=0
while read -r case; do
    n_cases=$((n_cases + 1))
    IFS=$'\t' read -r name prompt ids < <(jq -r '[.model, .prompt, (.ids + .greedy[:-1] | join(","))]
        | @tsv' <<<"$case")
    file=models/$name.gguf
    [ -e "$file" ] || file=tests/models/$name.gguf
    case $name in
    *-f16) kv=f16 near=0.03 near_lse=0.01 gap=0.06 ;;
    *) kv=int8 near=0.25 near_lse=0.25 gap=0.3 ;;
    esac
    # The greedy text is compared up to the first place where two tokens are nearly alike.
    n=$(jq "[.greedy_margin[] <= $gap] | index(true) // length" <<<"$case")
    bounds=(--argjson case "$case" --argjson near $near --argjson near_lse $near_lse
        --argjson gap $gap --argjson n "$n")

    "$volley" logits -m "$file" --ids "$ids" --kv $kv --top 64 >"$scratch/logits"
    check_equal "$name: logits over '$prompt'" '' \
        "$(jq -sr "${bounds[@]}" "$compare_logits" "$scratch/logits" 2>&1)"
    "$volley" run -m "$file" -p "$prompt" -n "$n" --temp 0 --ignore-eos --kv $kv --json \
        >"$scratch/run"
    check_equal "$name: $n greedy tokens after '$prompt'" '' \
        "$(jq -r "${bounds[@]}" "$compare_greedy" "$scratch/run" 2>&1)"
done < <(jq -c '.cases[]' tests/data/golden/logits.json)
check_equal 'every case of the reference was looked at' 30 $n_cases
