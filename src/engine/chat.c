/* Conversations: the target's chat template. */
#include "engine/engine_internal.h"

#include <string.h>

static vly_bytes piece_of(const vly_tokenizer *t, uint32_t id)
{
    return id == VLY_NO_TOKEN ? (vly_bytes){"", 0} : vly_tokenizer_piece(t, id);
}

int vly_engine_load_template(vly_engine *e, const char *asked, vly_error *err)
{
    static const char key[] = "tokenizer.chat_template";
    const vly_tokenizer *t = e->target_tokenizer;
    const vly_bytes bos = piece_of(t, vly_tokenizer_bos(t));
    const vly_bytes eos = piece_of(t, vly_tokenizer_eos(t));
    vly_bytes own;
    if (asked)
        return vly_chat_template_create((vly_bytes){asked, strlen(asked)}, bos, eos, &e->chat, err);
    if (!vly_gguf_find(e->target_file, key)) {
        vly_fail(&e->chat_error, VLY_E_UNSUPPORTED,
                 "the model has no chat template: it may not be made for conversations; else name "
                 "the one that it expects with --chat-template NAME|FILE (chatml, llama3, ...)");
        return 0;
    }
    int rc = vly_gguf_string(e->target_file, key, &own, err);
    if (rc) return rc;
    rc = vly_chat_template_create(own, bos, eos, &e->chat, &e->chat_error);
    return rc == VLY_E_HOST_MEMORY ? vly_fail(err, rc, "%s", e->chat_error.message) : 0;
}

int vly_engine_apply_template(const vly_engine *e, const vly_chat_message *messages, size_t n,
                              bool add_generation_prompt, char **text, size_t *len, vly_error *err)
{
    if (!e->chat) return vly_fail(err, e->chat_error.code, "%s", e->chat_error.message);
    vly_text out = {0};
    int rc = vly_text_append(&out, "", 0);
    if (rc)
        vly_fail(err, rc, "no memory for the text of a conversation");
    else
        rc = vly_chat_template_render(e->chat, messages, n, add_generation_prompt, &out, err);
    if (rc) {
        vly_text_free(&out);
        return rc;
    }
    *text = out.data;
    *len = out.len;
    return 0;
}
