#include "engine/output.h"

#include <string.h>

int vly_output_init(vly_output *out, const vly_tokenizer *tokenizer, const uint32_t *prompt,
                    size_t n, const char *const *stop, uint32_t n_stop, vly_error *err)
{
    *out = (vly_output){.tokenizer = tokenizer, .at_start = true, .stop_index = -1};
    for (size_t i = 0; i < n && out->at_start; i++)
        out->at_start = vly_tokenizer_bytes(tokenizer, prompt[i]).len == 0;
    return vly_stop_init(&out->stop, stop, n_stop, err);
}

void vly_output_deinit(vly_output *out)
{
    vly_stop_deinit(&out->stop);
    vly_text_free(&out->text);
}

/* Looks for stop strings in what was appended to the text of `old_len` bytes. */
static void find_stop(vly_output *out, size_t old_len)
{
    size_t n_read, n_new = out->text.len - old_len;
    if (out->stop.n == 0 || n_new == 0) return;
    out->stop_index =
        vly_stop_read(&out->stop, out->text.data + old_len, n_new, &n_read, &out->n_held);
    if (out->stop_index < 0) return;
    out->text.len = old_len + n_read - out->n_held;
    out->n_held = 0;
}

static void drop_taken(vly_output *out)
{
    if (out->n_taken == 0) return;
    out->text.len -= out->n_taken;
    memmove(out->text.data, out->text.data + out->n_taken, out->text.len);
    out->n_taken = 0;
}

int vly_output_push(vly_output *out, uint32_t id)
{
    vly_bytes bytes = vly_tokenizer_bytes(out->tokenizer, id);
    drop_taken(out);
    size_t old_len = out->text.len;
    if (out->at_start && bytes.len > 0) {
        if (vly_tokenizer_space_prefix(out->tokenizer) && bytes.data[0] == ' ') {
            bytes.data++;
            bytes.len--;
        }
        out->at_start = false;
    }
    int rc = vly_utf8_stream_push(&out->utf8, bytes.data, bytes.len, &out->text);
    if (rc == 0) find_stop(out, old_len);
    return rc;
}

int vly_output_finish(vly_output *out)
{
    drop_taken(out);
    if (out->stop_index >= 0) return 0;
    out->n_held = 0;
    return vly_utf8_stream_finish(&out->utf8, &out->text);
}

vly_bytes vly_output_take(vly_output *out)
{
    drop_taken(out);
    out->n_taken = out->text.len - out->n_held;
    return (vly_bytes){out->text.data ? out->text.data : "", out->n_taken};
}
