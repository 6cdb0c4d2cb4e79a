#!/usr/bin/env bash
# Checks on the source tree itself: which folder includes what, and the models' hashes.
. "$(dirname "$0")/e2e/lib.sh"
cd "$root" || exit 1

# The layers, lowest first; folders of one line may include each other.
layers='
base
gguf
text sample
store
gpu
kv
model
spec drafts
engine
serve
cli bench'

# Prints every quoted include of another folder that does not point down the layers.
upward_includes() {
    grep -HnE '^ *# *include +"[a-z_]+/' src/*/*.[ch] drafts/*.[ch] 2>/dev/null |
        awk -v layers="$layers" '
        BEGIN {
            n = split(layers, line, "\n")
            for (i = 1; i <= n; i++) {
                m = split(line[i], folder, " ")
                for (j = 1; j <= m; j++) rank[folder[j]] = i
            }
        }
        {
            split($0, at, ":")
            sub(/^src\//, "", at[1])
            from = at[1]; sub(/\/.*/, "", from)
            to = $0; sub(/^[^"]*"/, "", to); sub(/\/.*/, "", to)
            if (from == to || to == "shaders") next # shaders/shared.h belongs to both sides
            if (!(from in rank)) print "no layer is known for folder " from ": " $0
            else if (!(to in rank) || rank[to] > rank[from]) print $0
        }'
}
check_equal 'includes point down the layers' '' "$(upward_includes)"

check_equal 'only src/gpu includes vulkan.h' '' \
    "$(grep -rlE '# *include +[<"]vulkan/' src drafts include tests 2>/dev/null | grep -v '^src/gpu/')"

# (The validation layer's errors do, in config=debug.)
check_equal 'nothing below main.c and the commands ends the process' '' \
    "$(grep -nE '\b(exit|_exit|quick_exit|abort) *\(' src/*/*.c drafts/*.c 2>/dev/null |
        grep -vE '^src/(cli/|bench/|gpu/instance\.c:)')"

# Prints the relative links of the documents that lead nowhere.
dead_links() {
    local document link
    for document in *.md */*.md tests/*/*.md; do
        [ -e "$document" ] || continue
        grep -oE '\]\([^)#]+' "$document" | cut -c 3- | grep -v '^[a-z]*:' | while read -r link; do
            [ -e "$(dirname "$document")/$link" ] || echo "$document: $link"
        done
    done
}
check_equal 'links between documents lead somewhere' '' "$(dead_links)"

# Prints the formats that can be computed with and the document does not name.
unnamed_formats() {
    sed -n 's/^VLY_FORMAT(\([a-z0-9_]*\),.*, \(floats\|codes\))$/\1/p' src/gguf/formats.def | tr a-z A-Z |
        while read -r format; do grep -qw "$format" "$1" || echo "$format"; done
}
check_match 'the table of formats is found' 'F32' "$(unnamed_formats /dev/null)"
for document in README.md docs/kernels.md; do
    check_equal "$document names every format that works" '' "$(unnamed_formats $document)"
done

# Of "NAME(first, ..." lines of a table the first words, sorted.
names_of() { sed -n "s/^$2(\([a-z]*\),.*/\1/p" "$1" | sort; }
check_equal 'README.md has a row for each command' "$(names_of src/cli/commands.def VLY_COMMAND)" \
    "$(sed -n 's/^| `volley \([a-z]*\)` .*/\1/p' README.md | sort)"
check_equal 'docs/performance.md has one for each bench' "$(names_of src/bench/benches.def VLY_BENCH)" \
    "$(sed -n '/^| bench | what/,/^$/s/^| `\([a-z]*\)` |.*/\1/p' docs/performance.md | sort)"
check_equal 'docs/speculation.md one for each method' \
    "$(sed -n 's/^VLY_DRAFT_METHOD([A-Z]*, "\([a-z]*\)".*/\1/p' drafts/methods.def | sort)" \
    "$(sed -n '/^| method | proposes/,/^$/s/^| `\([a-z]*\)`[^|]*|.*/\1/p' docs/speculation.md | sort)"

check 'the shipped models are the ones that SHA256SUMS names' \
    sh -c 'cd models && sha256sum --quiet -c SHA256SUMS'
check 'so are the test models' sh -c 'cd tests/models && sha256sum --quiet -c SHA256SUMS'
check 'the compiled shaders for matrix units are of these sources (make spirv)' \
    sha256sum --quiet -c shaders/spirv/SOURCES.sha256
