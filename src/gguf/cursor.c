#include "gguf/cursor.h"

#include <inttypes.h>

int vly_cursor_take(vly_cursor *cursor, uint64_t n, const char *field, const uint8_t **out,
                    vly_error *err)
{
    if (n > vly_cursor_left(cursor))
        return vly_fail(err, VLY_E_FORMAT,
                        "%s: expected %" PRIu64 " byte%s at byte %" PRIu64
                        ", but the file ends at byte %" PRIu64,
                        field, n, vly_plural(n), cursor->at, cursor->n_bytes);
    *out = cursor->data + cursor->at;
    cursor->at += n;
    return 0;
}

int vly_cursor_u32(vly_cursor *cursor, const char *field, uint32_t *out, vly_error *err)
{
    const uint8_t *p = NULL;
    int rc = vly_cursor_take(cursor, sizeof *out, field, &p, err);
    if (rc == 0) *out = (uint32_t)vly_load_le(p, sizeof *out);
    return rc;
}

int vly_cursor_u64(vly_cursor *cursor, const char *field, uint64_t *out, vly_error *err)
{
    const uint8_t *p = NULL;
    int rc = vly_cursor_take(cursor, sizeof *out, field, &p, err);
    if (rc == 0) *out = vly_load_le(p, sizeof *out);
    return rc;
}

int vly_cursor_string(vly_cursor *cursor, const char *field, vly_bytes *out, vly_error *err)
{
    uint64_t start = cursor->at, n = 0;
    const uint8_t *p = NULL;
    int rc = vly_cursor_u64(cursor, field, &n, err);
    if (rc) return rc;
    rc = vly_cursor_take(cursor, n, field, &p, err);
    if (rc) {
        cursor->at = start;
        return rc;
    }
    *out = (vly_bytes){(const char *)p, n};
    return 0;
}
