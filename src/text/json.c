#include "text/json.h"

#include "text/tokenizer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUL_MARK '\xFF'

static size_t count_digits(const char *text, size_t len)
{
    size_t n = 0;
    while (n < len && text[n] >= '0' && text[n] <= '9') n++;
    return n;
}

/* Bytes of the number at the front of `text`; 0 where there is none, or more than one. */
static size_t number_length(const char *text, size_t len)
{
    size_t at = text[0] == '-', n = count_digits(text + at, len - at);
    if (n == 0 || (n > 1 && text[at] == '0')) return 0;
    at += n;
    if (at < len && text[at] == '.') {
        if ((n = count_digits(text + at + 1, len - at - 1)) == 0) return 0;
        at += 1 + n;
    }
    if (at < len && (text[at] | 32) == 'e') {
        at += at + 1 < len && (text[at + 1] == '+' || text[at + 1] == '-') ? 2 : 1;
        if ((n = count_digits(text + at, len - at)) == 0) return 0;
        at += n;
    }
    return at < len && strchr(".+-eE", text[at]) ? 0 : at;
}

/* Where `text` has what JSON (RFC 8259) has not and cJSON lets pass: bytes that are no UTF-8,
 * control characters, other numbers; `len` if nowhere. */
static size_t find_bad_byte(const char *text, size_t len)
{
    bool in_string = false;
    for (size_t at = 0, n; at < len; at += n) {
        unsigned char c = (unsigned char)text[at];
        if (vly_utf8_next(text + at, len - at, &n) != VLY_UTF8_CHAR) return at;
        if (c < 0x20 && (in_string || !c || !strchr("\t\r\n", c))) return at;
        if (c == '"') in_string = !in_string;
        if (in_string && c == '\\' && len - at > 1 && (text[at + 1] == '"' || text[at + 1] == c))
            n = 2;
        if (in_string || (c != '-' && (c < '0' || c > '9'))) continue;
        if ((n = number_length(text + at, len - at)) == 0) return at;
    }
    return len;
}

/* Copies JSON with each escaped U+0000 as NUL_MARK; returns the length of the copy. */
static size_t mark_nul(const char *text, size_t len, char *copy)
{
    size_t n = 0;
    for (size_t at = 0; at < len;) {
        if (text[at] == '\\' && len - at >= 6 && !memcmp(text + at + 1, "u0000", 5)) {
            copy[n++] = NUL_MARK;
            at += 6;
            continue;
        }
        /* An escaped backslash starts no escape. */
        if (text[at] == '\\' && len - at >= 2) copy[n++] = text[at++];
        copy[n++] = text[at++];
    }
    return n;
}

int vly_json_parse(const char *text, size_t len, cJSON **out, vly_error *err)
{
    *out = NULL;
    size_t bad = find_bad_byte(text, len);
    if (bad < len)
        return vly_fail(
            err, VLY_E_FORMAT,
            "expected JSON in UTF-8, found byte %02X at byte %zu, which cannot be there",
            (unsigned)(unsigned char)text[bad], bad + 1);
    char *copy = calloc(len + 1, 1);
    if (!copy) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for %zu bytes of JSON", len);
    size_t n = mark_nul(text, len, copy);
    const char *end = copy;
    *out = cJSON_ParseWithLengthOpts(copy, n, &end, false);
    size_t at = (size_t)(end - copy);
    while (*out && at < n && strchr(" \t\r\n", copy[at])) at++;
    int rc = 0;
    if (!*out || at < n) {
        cJSON_Delete(*out);
        *out = NULL;
        /* cJSON names the last byte too where it missed what should follow. */
        const char *last = at + 1 == n ? ", or its end too early" : "";
        rc = at < n ? vly_fail(err, VLY_E_FORMAT,
                               "expected one JSON value, found something else at byte %zu%s",
                               at + 1, last)
                    : vly_fail(err, VLY_E_FORMAT, "expected one JSON value, found its end early");
    }
    free(copy);
    return rc;
}

int vly_json_string(const cJSON *item, vly_text *out)
{
    size_t from = out->len;
    int rc = vly_text_append(out, item->valuestring, strlen(item->valuestring));
    for (size_t i = from; !rc && i < out->len; i++)
        if (out->data[i] == NUL_MARK) out->data[i] = '\0';
    return rc;
}

int vly_json_quote(vly_bytes bytes, vly_text *out)
{
    vly_text clean = {0};
    vly_utf8_stream stream = {0};
    int rc = vly_utf8_stream_push(&stream, bytes.data, bytes.len, &clean);
    if (!rc) rc = vly_utf8_stream_finish(&stream, &clean);
    if (!rc) rc = vly_text_append(out, "\"", 1);
    size_t copied = 0;
    for (size_t i = 0; !rc && i < clean.len; i++) {
        unsigned char c = (unsigned char)clean.data[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7F) continue;
        char escape[8];
        int n = c == '\n'               ? snprintf(escape, sizeof escape, "\\n")
                : c == '\t'             ? snprintf(escape, sizeof escape, "\\t")
                : c == '"' || c == '\\' ? snprintf(escape, sizeof escape, "\\%c", c)
                                        : snprintf(escape, sizeof escape, "\\u%04x", c);
        rc = vly_text_append(out, clean.data + copied, i - copied);
        if (!rc) rc = vly_text_append(out, escape, (size_t)n);
        copied = i + 1;
    }
    if (!rc && copied < clean.len)
        rc = vly_text_append(out, clean.data + copied, clean.len - copied);
    if (!rc) rc = vly_text_append(out, "\"", 1);
    vly_text_free(&clean);
    return rc;
}
