/* Any Jinja source is either refused or renders any conversation, or refuses that. The input is the
 * source, a zero byte, and messages: a byte whose value chooses the role, content up to the next
 * zero byte. */
#include "text/chat_template.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define MAX_MESSAGES 32

static size_t take_messages(const char *text, size_t n, vly_chat_message *out)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    size_t n_out = 0;
    while (n > 0 && n_out < MAX_MESSAGES) {
        const char *end = memchr(text + 1, '\0', n - 1);
        size_t len = end ? (size_t)(end - text - 1) : n - 1;
        out[n_out++] = (vly_chat_message){roles[text[0] & 3], text + 1, len};
        text += 1 + len + (end != NULL);
        n -= 1 + len + (end != NULL);
    }
    return n_out;
}

static void render(const vly_chat_template *t, const vly_chat_message *messages, size_t n,
                   bool open)
{
    vly_text out = {0};
    vly_error err = {0};
    int rc = vly_chat_template_render(t, messages, n, open, &out, &err);
    if ((rc != 0 && rc != VLY_E_INVALID) || rc != err.code || (rc && out.len)) abort();
    vly_text_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *source = (const char *)data, *end = memchr(source, '\0', n);
    size_t len = end ? (size_t)(end - source) : n;
    vly_chat_template *t;
    vly_error err = {0};
    int rc = vly_chat_template_create((vly_bytes){source, len}, (vly_bytes){"<s>", 3},
                                      (vly_bytes){"</s>", 4}, &t, &err);
    if (rc) {
        if (rc != VLY_E_UNSUPPORTED || err.message[0] == '\0') abort();
        return 0;
    }
    vly_chat_message messages[MAX_MESSAGES];
    size_t n_messages = end ? take_messages(end + 1, n - len - 1, messages) : 0;
    render(t, messages, n_messages, true);
    render(t, messages, n_messages, false);
    vly_chat_template_destroy(t);
    return 0;
}
