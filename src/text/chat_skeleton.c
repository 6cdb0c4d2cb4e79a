/* What is left of Jinja source without all that may be written one way or another. */
#include "text/chat_template_internal.h"

#include <string.h>

typedef struct {
    const char *s;
    size_t n, at;
    vly_text *out;
    int rc;
} scanner;

static void put(scanner *x, const char *data, size_t n)
{
    if (x->rc == 0 && n) x->rc = vly_text_append(x->out, data, n);
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool starts(const scanner *x, const char *mark)
{
    size_t n = strlen(mark);
    return x->n - x->at >= n && memcmp(x->s + x->at, mark, n) == 0;
}

/* A string literal, x->at at its opening quote. */
static int scan_string(scanner *x, vly_error *err)
{
    char quote = x->s[x->at++];
    put(x, CHAT_QUOTE, 1);
    for (; x->at < x->n; x->at++) {
        char c = x->s[x->at];
        if (c == quote) {
            x->at++;
            put(x, CHAT_QUOTE, 1);
            return 0;
        }
        if (c == '\\' && x->at + 1 < x->n) {
            c = x->s[++x->at];
            if (c == 'n') c = '\n';
            if (c == 't') c = '\t';
            if (c == 'r') c = '\r';
        }
        put(x, &c, 1);
    }
    return vly_fail(err, VLY_E_UNSUPPORTED, "a string in it does not end");
}

/* The inside of a tag that ends with `close`, and the close. */
static int scan_tag(scanner *x, const char *close, vly_error *err)
{
    while (x->at < x->n) {
        char c = x->s[x->at];
        if (starts(x, close)) {
            x->at += 2;
            return 0;
        }
        if (c == '\'' || c == '"') {
            int rc = scan_string(x, err);
            if (rc) return rc;
            continue;
        }
        x->at++;
        if (is_blank(c) || ((c == '-' || c == '+') && starts(x, close))) continue;
        if (c != '.') {
            put(x, &c, 1);
            continue;
        }
        if (starts(x, "strip()")) {
            put(x, "|trim", 5);
            x->at += strlen("strip()");
            continue;
        }
        size_t n = 0;
        while (x->at + n < x->n && is_word(x->s[x->at + n])) n++;
        const char *word = x->s + x->at;
        bool field =
            (n == 4 && memcmp(word, "role", 4) == 0) || (n == 7 && memcmp(word, "content", 7) == 0);
        put(x, field ? "[" CHAT_QUOTE : ".", field ? 2 : 1);
        put(x, word, n);
        if (field) put(x, CHAT_QUOTE "]", 2);
        x->at += n;
    }
    return vly_fail(err, VLY_E_UNSUPPORTED, "a tag in it does not end with %s", close);
}

/* Text outside of tags, up to `end`. `trim_front` and `trim_back`: 0 keeps white space, 1 drops a
 * newline in front or the blanks of the last line, 2 drops all. */
static void put_raw(scanner *x, size_t end, int trim_front, int trim_back)
{
    size_t from = x->at;
    if (trim_front == 1 && from < end && x->s[from] == '\n') from++;
    while (trim_front == 2 && from < end && is_blank(x->s[from])) from++;
    size_t to = end;
    if (trim_back) {
        while (to > from && is_blank(x->s[to - 1]) && (trim_back == 2 || x->s[to - 1] != '\n'))
            to--;
        /* Blanks go only where they are all that the line has in front of the tag. */
        if (trim_back == 1 && to > from && x->s[to - 1] != '\n') to = end;
        if (trim_back == 1 && to == from && from > 0 && x->s[from - 1] != '\n') to = end;
    }
    if (to > from) {
        put(x, CHAT_RAW, 1);
        put(x, x->s + from, to - from);
        put(x, CHAT_RAW, 1);
    }
    x->at = end;
}

/* A comment, x->at behind its opening. */
static int skip_comment(scanner *x, vly_error *err)
{
    while (x->at < x->n && !starts(x, "#}")) x->at++;
    if (x->at == x->n) return vly_fail(err, VLY_E_UNSUPPORTED, "a comment in it does not end");
    x->at += 2;
    return 0;
}

int vly_chat_skeleton(vly_bytes source, vly_text *out, vly_error *err)
{
    if (source.len && (memchr(source.data, *CHAT_QUOTE, source.len) ||
                       memchr(source.data, *CHAT_RAW, source.len)))
        return vly_fail(err, VLY_E_UNSUPPORTED, "it has control bytes");
    scanner x = {.s = source.data, .n = source.len, .out = out};
    /* Jinja drops one newline at the end. */
    if (x.n && x.s[x.n - 1] == '\n') x.n--;
    int rc = 0, trim_front = 0;
    while (rc == 0 && x.rc == 0) {
        size_t end = x.at;
        while (end < x.n &&
               !(x.s[end] == '{' && end + 1 < x.n && strchr("{%#", x.s[end + 1]) && x.s[end + 1]))
            end++;
        char kind = end < x.n ? x.s[end + 1] : '\0', sign = end + 2 < x.n ? x.s[end + 2] : '\0';
        int trim_back = kind == '\0' ? 0 : sign == '-' ? 2 : kind != '{' && sign != '+';
        put_raw(&x, end, trim_front, trim_back);
        if (kind == '\0') break;
        x.at = end + 2 + (sign == '-' || sign == '+');
        if (kind == '#') {
            rc = skip_comment(&x, err);
        } else {
            const char *const close = kind == '{' ? "}}" : "%}";
            put(&x, kind == '{' ? "{{" : "{%", 2);
            rc = scan_tag(&x, close, err);
            put(&x, close, 2);
        }
        char last = x.at >= 3 ? x.s[x.at - 3] : '\0';
        trim_front = last == '-' ? 2 : kind != '{' && last != '+';
    }
    if (rc) return rc;
    return x.rc ? vly_fail(err, x.rc, "no memory for a chat template") : 0;
}
