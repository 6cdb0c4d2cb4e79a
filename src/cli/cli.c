#include "cli/cli.h"

#include "text/tokenizer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int vly_cli_usage_error(const char *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "volley %s: ", command);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\ntry 'volley %s --help'\n", command);
    va_end(args);
    return 2;
}

int vly_cli_fail(const vly_error *err)
{
    fprintf(stderr, "volley: error: %s\n", err->message);
    return 1;
}

/* Is `text` not empty and all of `characters`? */
static bool spelled_with(const char *text, const char *characters)
{
    return *text && text[strspn(text, characters)] == '\0';
}

int vly_cli_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    if (!spelled_with(text, "0123456789")) return -1;
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    if (errno || value < min || value > max) return -1;
    *out = value;
    return 0;
}

int vly_cli_parse_double(const char *text, double min, double max, double *out)
{
    if (!spelled_with(text, "0123456789+-.eE")) return -1;
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= min && value <= max)) return -1;
    /* What overflowed is infinite, which a caller's [0, INFINITY] would let pass. */
    if (value - value != 0) return -1;
    *out = value;
    return 0;
}

char *vly_cli_utf8(vly_bytes bytes)
{
    static const char replacement[] = "\xef\xbf\xbd";
    vly_utf8_stream stream = {0};
    vly_text text = {0};
    int rc = vly_text_append(&text, "", 0);
    while (rc == 0 && bytes.len > 0) {
        const char *nul = memchr(bytes.data, '\0', bytes.len);
        size_t n = nul ? (size_t)(nul - bytes.data) : bytes.len;
        rc = vly_utf8_stream_push(&stream, bytes.data, n, &text);
        if (rc == 0) rc = vly_utf8_stream_finish(&stream, &text);
        if (rc == 0 && nul) rc = vly_text_append(&text, replacement, sizeof replacement - 1);
        n += nul != NULL;
        bytes = (vly_bytes){bytes.data + n, bytes.len - n};
    }
    if (rc) vly_text_free(&text);
    return text.data;
}

int vly_cli_read_text(const char *path, vly_text *text, vly_error *err)
{
    enum { MAX_BYTES = 1 << 30 };
    if (path && strcmp(path, "-") == 0) path = NULL;
    const char *name = path ? path : "standard input";
    FILE *file = path ? fopen(path, "rb") : stdin;
    if (!file)
        return vly_fail(err, errno == ENOENT ? VLY_E_NOT_FOUND : VLY_E_IO, "cannot open %s: %s",
                        name, strerror(errno));
    char chunk[65536];
    int rc = 0;
    /* A terminal's end is read once: behind it there may be more. */
    for (size_t n; !rc && !feof(file) && (n = fread(chunk, 1, sizeof chunk, file)) > 0;) {
        if (text->len + n > MAX_BYTES)
            rc = vly_fail(err, VLY_E_INVALID, "%s: expected a text of at most %d bytes", name,
                          MAX_BYTES);
        else if ((rc = vly_text_append(text, chunk, n)))
            vly_fail(err, rc, "no memory for the text of %s", name);
    }
    if (!rc && ferror(file))
        rc = vly_fail(err, VLY_E_IO, "cannot read %s: %s", name, strerror(errno));
    if (path) fclose(file);
    return rc;
}

char *vly_cli_printable(vly_bytes bytes)
{
    char *utf8 = vly_cli_utf8(bytes);
    vly_text text = {0};
    int rc = vly_text_append(&text, "", 0);
    for (const unsigned char *p = (const unsigned char *)utf8; p && *p && rc == 0; p++) {
        char escape[8];
        /* C0 control characters, and C1: U+0080 to U+009F. */
        bool c0 = *p < 0x20 || *p == 0x7f, c1 = p[0] == 0xc2 && p[1] < 0xa0;
        if (c0 || c1) {
            p += c1;
            int n = snprintf(escape, sizeof escape, *p == '\n' ? "\\n" : "\\x%02x", *p);
            rc = vly_text_append(&text, escape, (size_t)n);
        } else {
            rc = vly_text_append(&text, p, 1);
        }
    }
    free(utf8);
    return text.data;
}
