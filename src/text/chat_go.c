/* Chat templates in Go's template language, as Ollama's store has them. They are not run but held
 * against the families' turns: what they spell around a user's message, and what opens the
 * assistant's turn. */
#include "text/chat_template_internal.h"

#include <string.h>

/* What stands for fields in the text that is left. */
#define CONTENT "\x01"
#define SYSTEM  "\x02"
#define ROLE    "\x03"

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool ends_with(vly_bytes text, const char *end)
{
    size_t n = strlen(end);
    return text.len >= n && memcmp(text.data + text.len - n, end, n) == 0;
}

/* The mark of an action that is a field and nothing else ("$m.Content"); "" for all others. */
static const char *mark_of(vly_bytes action)
{
    for (size_t i = 0; i < action.len; i++)
        if (is_blank(action.data[i])) return "";
    if (ends_with(action, ".Content") || ends_with(action, ".Prompt")) return CONTENT;
    if (ends_with(action, ".System")) return SYSTEM;
    return ends_with(action, ".Role") ? ROLE : "";
}

static void trim_end(vly_text *text)
{
    while (text->len && is_blank(text->data[text->len - 1])) text->data[--text->len] = '\0';
}

/* Appends the text of `source` with marks for fields and without its other actions. */
static int strip_actions(vly_bytes source, vly_text *out)
{
    const char *p = source.data, *end = source.data + source.len;
    int rc = vly_text_append(out, "", 0);
    while (rc == 0 && p < end) {
        const char *open = memmem(p, (size_t)(end - p), "{{", 2);
        rc = vly_text_append(out, p, (size_t)((open ? open : end) - p));
        if (!open || rc) break;
        const char *close = memmem(open + 2, (size_t)(end - open - 2), "}}", 2);
        if (!close) break;
        vly_bytes action = {open + 2, (size_t)(close - open - 2)};
        p = close + 2;
        /* A '-' beside a brace takes the white space beyond the brace away. */
        if (action.len && action.data[0] == '-') {
            trim_end(out);
            action = (vly_bytes){action.data + 1, action.len - 1};
        }
        if (action.len && action.data[action.len - 1] == '-') {
            action.len--;
            while (p < end && is_blank(*p)) p++;
        }
        while (action.len && is_blank(action.data[0]))
            action = (vly_bytes){action.data + 1, action.len - 1};
        while (action.len && is_blank(action.data[action.len - 1])) action.len--;
        const char *mark = mark_of(action);
        rc = vly_text_append(out, mark, strlen(mark));
    }
    return rc;
}

/* Takes system messages, and the white space behind each, out of the text. */
static void drop_system(vly_text *text)
{
    size_t n = 0;
    for (size_t i = 0; i < text->len; i++) {
        if (text->data[i] != *SYSTEM) {
            text->data[n++] = text->data[i];
            continue;
        }
        while (i + 1 < text->len && is_blank(text->data[i + 1])) i++;
    }
    text->len = n;
    text->data[n] = '\0';
}

/* Appends an affix without the white space at its start, EOS spelled out and, with `role`, that
 * word as a mark. */
static int add_affix(vly_text *to, vly_bytes affix, vly_bytes eos, const char *role)
{
    int rc = 0;
    size_t n_role = role ? strlen(role) : 0;
    for (size_t i = 0; rc == 0 && i < affix.len; i++) {
        if (affix.data[i] == *BOS || (to->len == 0 && is_blank(affix.data[i]))) continue;
        if (affix.data[i] == *EOS) {
            rc = vly_text_append(to, eos.data, eos.len);
        } else if (n_role && affix.len - i >= n_role && !memcmp(affix.data + i, role, n_role)) {
            rc = vly_text_append(to, ROLE, 1);
            i += n_role - 1;
        } else {
            rc = vly_text_append(to, affix.data + i, 1);
        }
    }
    return rc;
}

/* Does the text spell a user's turn and the assistant's opening as `format` does, with the roles'
 * names or (`by_role`) with the field in their place? */
static int spells(const vly_text *text, const vly_chat_format *format, vly_bytes eos, bool by_role,
                  bool *out)
{
    const vly_chat_turn *user = &format->turn[CHAT_USER];
    vly_text turn = {0}, opening = {0};
    int rc = add_affix(&turn, user->prefix, eos, by_role ? "user" : NULL);
    if (rc == 0) rc = vly_text_append(&turn, CONTENT, 1);
    if (rc == 0) rc = add_affix(&turn, user->suffix, eos, NULL);
    if (rc == 0) rc = add_affix(&opening, format->opening, eos, NULL);
    trim_end(&turn);
    trim_end(&opening);
    *out = rc == 0 && strstr(text->data, turn.data) &&
           (opening.len == 0 || strstr(text->data, opening.data) != NULL);
    vly_text_free(&turn);
    vly_text_free(&opening);
    return rc;
}

int vly_chat_go_family(vly_bytes source, vly_bytes eos, const char **name, vly_error *err)
{
    vly_text text = {0};
    bool found = false;
    *name = NULL;
    int rc = strip_actions(source, &text);
    bool llama2 = rc == 0 && strstr(text.data, "<<SYS>>");
    if (rc == 0 && !llama2) drop_system(&text);
    for (size_t i = 0; rc == 0 && !found && i < vly_chat_n_formats; i++) {
        const vly_chat_format *format = &vly_chat_formats[i];
        if ((format->shape == CHAT_LLAMA2) != llama2) continue;
        /* The system message goes in front of the user's, which so has no fixed place. */
        if (llama2) found = strstr(text.data, "[INST]") && strstr(text.data, "[/INST]");
        for (int by_role = 0; rc == 0 && !found && !llama2 && by_role < 2; by_role++)
            rc = spells(&text, format, eos, by_role, &found);
        if (found) *name = format->name;
    }
    vly_text_free(&text);
    return rc ? vly_fail(err, rc, "no memory for a chat template") : 0;
}
