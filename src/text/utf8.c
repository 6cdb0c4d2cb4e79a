#include "text/tokenizer_internal.h"

#include <string.h>

/* Table 3-7 of Unicode 15.0: which bytes may follow a lead byte. All but the first continuation
 * byte are 80..BF. */
static const struct {
    uint8_t lead_min, lead_max, n, second_min, second_max;
} sequences[] = {
    {0x00, 0x7F, 1, 0, 0},       {0xC2, 0xDF, 2, 0x80, 0xBF}, {0xE0, 0xE0, 3, 0xA0, 0xBF},
    {0xE1, 0xEC, 3, 0x80, 0xBF}, {0xED, 0xED, 3, 0x80, 0x9F}, {0xEE, 0xEF, 3, 0x80, 0xBF},
    {0xF0, 0xF0, 4, 0x90, 0xBF}, {0xF1, 0xF3, 4, 0x80, 0xBF}, {0xF4, 0xF4, 4, 0x80, 0x8F},
};

vly_utf8_kind vly_utf8_next(const char *bytes, size_t n, size_t *len)
{
    const uint8_t *b = (const uint8_t *)bytes;
    for (size_t i = 0; i < sizeof sequences / sizeof *sequences; i++) {
        if (b[0] > sequences[i].lead_max) continue;
        if (b[0] < sequences[i].lead_min) break;
        uint8_t min = sequences[i].second_min, max = sequences[i].second_max;
        for (*len = 1; *len < sequences[i].n; (*len)++) {
            if (*len == n) return VLY_UTF8_PARTIAL;
            if (b[*len] < min || b[*len] > max) return VLY_UTF8_BAD;
            min = 0x80, max = 0xBF;
        }
        return VLY_UTF8_CHAR;
    }
    *len = 1;
    return VLY_UTF8_BAD;
}

static const char replacement[] = "\xEF\xBF\xBD";

/* Appends what of `bytes` is decided; *n_left bytes at the end are not. */
static int append_decided(const char *bytes, size_t n, vly_text *out, size_t *n_left)
{
    size_t at = 0, copied = 0;
    *n_left = 0;
    while (at < n) {
        size_t len;
        vly_utf8_kind kind = vly_utf8_next(bytes + at, n - at, &len);
        if (kind == VLY_UTF8_CHAR) {
            at += len;
            continue;
        }
        int rc = vly_text_append(out, bytes + copied, at - copied);
        if (rc) return rc;
        if (kind == VLY_UTF8_PARTIAL) {
            *n_left = n - at;
            return 0;
        }
        rc = vly_text_append(out, replacement, 3);
        if (rc) return rc;
        at += len;
        copied = at;
    }
    return vly_text_append(out, bytes + copied, n - copied);
}

int vly_utf8_stream_push(vly_utf8_stream *stream, const char *bytes, size_t n, vly_text *out)
{
    /* A held character takes one byte at a time, until it is decided; held + 1 bytes fit. */
    size_t at = 0;
    while (stream->n_held && at < n) {
        stream->held[stream->n_held++] = bytes[at++];
        size_t n_left, n_held = stream->n_held;
        int rc = append_decided(stream->held, n_held, out, &n_left);
        if (rc) return rc;
        memmove(stream->held, stream->held + n_held - n_left, n_left);
        stream->n_held = n_left;
    }
    if (at == n) return 0;
    size_t n_left;
    int rc = append_decided(bytes + at, n - at, out, &n_left);
    if (rc) return rc;
    memcpy(stream->held, bytes + n - n_left, n_left);
    stream->n_held = n_left;
    return 0;
}

int vly_utf8_stream_finish(vly_utf8_stream *stream, vly_text *out)
{
    size_t n_held = stream->n_held;
    stream->n_held = 0;
    return n_held ? vly_text_append(out, replacement, 3) : 0;
}
