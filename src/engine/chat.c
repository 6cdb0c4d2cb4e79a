/* Conversations: the target's chat template. */
#include "engine/engine_internal.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

static vly_bytes piece_of(const vly_tokenizer *t, uint32_t id)
{
    return id == VLY_NO_TOKEN ? (vly_bytes){"", 0} : vly_tokenizer_piece(t, id);
}

/* Ollama's template, where its family is known: *found. */
static int load_store_template(vly_engine *e, vly_bytes bos, vly_bytes eos, bool *found,
                               vly_error *err)
{
    const char *source = e->store.chat_template, *name = NULL;
    int rc = source ? vly_chat_go_family((vly_bytes){source, strlen(source)}, eos, &name, err) : 0;
    *found = name != NULL;
    if (source && *source && !name)
        vly_log(
            VLY_LOG_INFO, "engine",
            "the chat template of Ollama's store is of no known family: the file's own is taken");
    if (rc || !name) return rc;
    return vly_chat_template_create((vly_bytes){name, strlen(name)}, bos, eos, &e->chat, err);
}

static int load_template(vly_engine *e, const char *asked, vly_error *err)
{
    static const char key[] = "tokenizer.chat_template";
    const vly_tokenizer *t = e->target_tokenizer;
    const vly_bytes bos = piece_of(t, vly_tokenizer_bos(t));
    const vly_bytes eos = piece_of(t, vly_tokenizer_eos(t));
    vly_bytes own;
    bool found;
    if (asked)
        return vly_chat_template_create((vly_bytes){asked, strlen(asked)}, bos, eos, &e->chat, err);
    int rc = load_store_template(e, bos, eos, &found, err);
    if (rc || found) return rc;
    if (!vly_gguf_find(e->target_file, key)) {
        bool unknown = e->store.chat_template && *e->store.chat_template;
        vly_fail(&e->chat_error, VLY_E_UNSUPPORTED,
                 "the model has no chat template%s; name the one that it expects with "
                 "--chat-template NAME|FILE (chatml, llama3, ...)",
                 unknown ? " of a known family" : ": it may not be made for conversations");
        return 0;
    }
    rc = vly_gguf_string(e->target_file, key, &own, err);
    if (rc) return rc;
    rc = vly_chat_template_create(own, bos, eos, &e->chat, &e->chat_error);
    return rc == VLY_E_HOST_MEMORY ? vly_fail(err, rc, "%s", e->chat_error.message) : 0;
}

int vly_engine_load_template(vly_engine *e, const char *asked, vly_error *err)
{
    int rc = load_template(e, asked, err);
    if (e->chat)
        vly_log(VLY_LOG_INFO, "engine", "conversations are spelled as by %s",
                vly_chat_template_name(e->chat));
    return rc;
}

static int fail_memory(vly_error *err)
{
    return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the text of a conversation");
}

/* Renders the conversation behind the default system message. */
static int render_with_system(const vly_engine *e, const vly_chat_message *messages, size_t n,
                              bool open, vly_text *out, vly_error *err)
{
    vly_chat_message *all = malloc((n + 1) * sizeof *all);
    if (!all) return fail_memory(err);
    const char *system = e->defaults.system;
    all[0] = (vly_chat_message){"system", system, strlen(system)};
    memcpy(all + 1, messages, n * sizeof *all);
    int rc = vly_chat_template_render(e->chat, all, n + 1, open, out, err);
    free(all);
    return rc;
}

int vly_engine_apply_template(const vly_engine *e, const vly_chat_message *messages, size_t n,
                              bool add_generation_prompt, char **text, size_t *len, vly_error *err)
{
    if (!e->chat) return vly_fail(err, e->chat_error.code, "%s", e->chat_error.message);
    vly_text out = {0};
    int rc = VLY_E_INVALID;
    if (e->defaults.system && n > 0 && strcmp(messages[0].role, "system") != 0)
        rc = render_with_system(e, messages, n, add_generation_prompt, &out, err);
    /* Some templates take no system message. */
    if (rc == VLY_E_INVALID)
        rc = vly_chat_template_render(e->chat, messages, n, add_generation_prompt, &out, err);
    if (rc == 0 && vly_text_append(&out, "", 0)) rc = fail_memory(err);
    if (rc) {
        vly_text_free(&out);
        return rc;
    }
    *text = out.data;
    *len = out.len;
    return 0;
}
