/* How byte-level BPE cuts text before merging: one row for each value of tokenizer.ggml.pre. */
#include "text/tokenizer_internal.h"

#include "gguf/quote.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* White space as Unicode has it: PCRE2's own \s holds U+180E too. */
#define SPACE "\\p{White_Space}"
#define OTHER "[^" SPACE "\\p{L}\\p{N}]"
#define SHORT "'s|'t|'re|'ve|'m|'ll|'d"
/* A run of white space, less its last where a word follows, which takes that one. */
#define SPACES SPACE "+(?!\\P{White_Space})|" SPACE "+"
#define GPT2   SHORT "| ?\\p{L}+| ?\\p{N}+| ?" OTHER "+|" SPACES
/* Numbers are cut out one by one before the rest, so that white space ends at a number as it does
 * at the end of the text. */
#define DIGITS SHORT "| ?\\p{L}+|\\p{N}| ?" OTHER "+|" SPACE "+(?![^" SPACE "\\p{N}])|" SPACE "+"
#define GPT4(num)                                                                                  \
    "(?i:" SHORT ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" num "| ?" OTHER "+[\\r\\n]*|" SPACE            \
    "*[\\r\\n]+|" SPACES
#define LLAMA3 GPT4("\\p{N}{1,3}")
#define QWEN2  GPT4("\\p{N}")
/* Words end where a capital follows a small letter; letters without case, and marks, go with both.
 */
#define LARGE  "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define SMALL  "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define BEFORE "[^\\r\\n\\p{L}\\p{N}]?"
#define TEKKEN                                                                                     \
    BEFORE LARGE "*" SMALL "+|" BEFORE LARGE "+" SMALL "*|\\p{N}| ?" OTHER "+[\\r\\n/]*|" SPACE    \
                 "*[\\r\\n]+|" SPACES

typedef struct {
    const char *name;
    const char *pattern;
    bool keeps_pieces; /* a pre-token that is a piece is not merged */
    bool adds_bos;     /* where the file does not say */
} row;

static const row rows[] = {
    {"smollm", DIGITS, false, false},    {"starcoder", DIGITS, false, false},
    {"refact", DIGITS, false, false},    {"codeshell", DIGITS, false, false},
    {"gpt-2", GPT2, false, false},       {"phi-2", GPT2, false, false},
    {"mpt", GPT2, false, false},         {"olmo", GPT2, false, false},
    {"llama-bpe", LLAMA3, true, true},   {"llama3", LLAMA3, true, true},
    {"llama-v3", LLAMA3, true, true},    {"falcon3", LLAMA3, true, true},
    {"pixtral", LLAMA3, true, true},     {"lfm2", LLAMA3, true, true},
    {"smaug-bpe", LLAMA3, false, false}, {"dbrx", LLAMA3, false, false},
    {"qwen2", QWEN2, false, false},      {"deepseek-r1-qwen", QWEN2, false, false},
    {"megrez", QWEN2, false, false},     {"stablelm2", QWEN2, false, false},
    {"tekken", TEKKEN, true, true},
};

struct vly_pretokenizer {
    const row *row;
    pcre2_code *code;
    pcre2_match_context *context; /* without limits: the patterns take linear time */
};

static int unknown_name(vly_bytes name, vly_error *err)
{
    char known[768] = "";
    size_t n = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && n < sizeof known; i++)
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", rows[i].name);
    return vly_fail(err, VLY_E_UNSUPPORTED,
                    "tokenizer.ggml.pre is %s; the pre-tokenizers that work are %s",
                    vly_quote(name).text, known);
}

static int compile(vly_pretokenizer *p, vly_error *err)
{
    int code;
    PCRE2_SIZE at;
    p->code = pcre2_compile((PCRE2_SPTR)p->row->pattern, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    if (!p->code) {
        char text[256] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
        return vly_fail(err, VLY_E_UNSUPPORTED,
                        "PCRE2 refuses the pattern of pre-tokenizer %s at byte %zu: %s",
                        p->row->name, at, text);
    }
    p->context = pcre2_match_context_create(NULL);
    if (!p->context) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a pre-tokenizer");
    pcre2_set_match_limit(p->context, UINT32_MAX);
    pcre2_set_depth_limit(p->context, UINT32_MAX);
    pcre2_set_heap_limit(p->context, UINT32_MAX);
    /* Where PCRE2 has no JIT for the machine, matching interprets the pattern. */
    pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
    return 0;
}

int vly_pretokenizer_create(vly_bytes name, vly_pretokenizer **out, vly_error *err)
{
    *out = NULL;
    const row *found = NULL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !found; i++)
        if (name.len == strlen(rows[i].name) && !memcmp(name.data, rows[i].name, name.len))
            found = &rows[i];
    if (!found) return unknown_name(name, err);
    vly_pretokenizer *p = calloc(1, sizeof *p);
    if (!p) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a pre-tokenizer");
    p->row = found;
    int rc = compile(p, err);
    if (rc) {
        vly_pretokenizer_destroy(p);
        return rc;
    }
    *out = p;
    return 0;
}

void vly_pretokenizer_destroy(vly_pretokenizer *p)
{
    if (!p) return;
    pcre2_match_context_free(p->context);
    pcre2_code_free(p->code);
    free(p);
}

bool vly_pretokenizer_keeps_pieces(const vly_pretokenizer *p)
{
    return p->row->keeps_pieces;
}

bool vly_pretokenizer_adds_bos(const vly_pretokenizer *p)
{
    return p->row->adds_bos;
}

int vly_pretokenizer_next(const vly_pretokenizer *p, void **match, const char *text, size_t len,
                          size_t *n, vly_error *err)
{
    if (!*match) *match = pcre2_match_data_create(1, NULL);
    if (!*match) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory to split text");
    const uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    int rc = pcre2_match(p->code, (PCRE2_SPTR)text, len, 0, options, *match, p->context);
    /* The JIT's stack is small and fixed; the interpreter's is the heap. */
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(p->code, (PCRE2_SPTR)text, len, 0, options | PCRE2_NO_JIT, *match,
                         p->context);
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) {
        char message[256] = "";
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)message, sizeof message);
        return vly_fail(err, VLY_E_HOST_MEMORY, "PCRE2 cannot split %zu bytes of text: %s", len,
                        message);
    }
    /* Text before a match, which no part of the pattern takes, is a pre-token of its own. */
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(*match);
    *n = rc == PCRE2_ERROR_NOMATCH ? len : span[0] ? span[0] : span[1];
    return 0;
}

void vly_pretokenizer_match_free(void *match)
{
    pcre2_match_data_free(match);
}
