#include "text/stop.h"

#include <stdlib.h>
#include <string.h>

/* How much of the string matches once `byte` follows `matched` matching bytes. */
static uint32_t advance(const char *text, const uint32_t *border, uint32_t matched, char byte)
{
    while (matched > 0 && text[matched] != byte) matched = border[matched - 1];
    return text[matched] == byte ? matched + 1 : 0;
}

static int add(vly_stop *stop, const char *string, vly_error *err)
{
    size_t len = strlen(string);
    if (len == 0 || len >= UINT32_MAX)
        return vly_fail(err, VLY_E_INVALID, "stop string %u: expected some text, got %zu bytes",
                        stop->n, len);
    char *text = malloc(len + 1);
    uint32_t *border = malloc(len * sizeof *border);
    stop->string[stop->n].text = text;
    stop->string[stop->n].border = border;
    stop->string[stop->n++].len = (uint32_t)len;
    if (!text || !border)
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a stop string of %zu bytes", len);
    memcpy(text, string, len + 1);
    border[0] = 0;
    for (uint32_t i = 1; i < len; i++) border[i] = advance(text, border, border[i - 1], text[i]);
    return 0;
}

int vly_stop_init(vly_stop *stop, const char *const *strings, uint32_t n, vly_error *err)
{
    *stop = (vly_stop){.n = 0};
    if (n > VLY_MAX_STOP)
        return vly_fail(err, VLY_E_INVALID, "%u stop strings; expected at most %d", n,
                        VLY_MAX_STOP);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < n; i++) rc = add(stop, strings[i], err);
    return rc;
}

void vly_stop_deinit(vly_stop *stop)
{
    for (uint32_t i = 0; i < stop->n; i++) {
        free(stop->string[i].text);
        free(stop->string[i].border);
    }
    *stop = (vly_stop){.n = 0};
}

int32_t vly_stop_read(vly_stop *stop, const char *bytes, size_t len, size_t *n_read, size_t *n_tail)
{
    int32_t found = -1;
    *n_tail = 0;
    for (*n_read = 0; *n_read < len && found < 0; ++*n_read)
        for (uint32_t i = 0; i < stop->n; i++) {
            uint32_t *matched = &stop->string[i].matched, whole = stop->string[i].len;
            *matched =
                advance(stop->string[i].text, stop->string[i].border, *matched, bytes[*n_read]);
            if (*matched == whole && (found < 0 || whole > stop->string[found].len))
                found = (int32_t)i;
        }
    for (uint32_t i = 0; found < 0 && i < stop->n; i++)
        if (stop->string[i].matched > *n_tail) *n_tail = stop->string[i].matched;
    if (found >= 0) *n_tail = stop->string[found].len;
    return found;
}
