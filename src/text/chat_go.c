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

/* How the pieces of a turn are looked for. */
typedef struct {
    bool by_role; /* the role's name is a field of the template */
    bool apart;   /* something may stand between what leads a turn and its content */
} search;

/* Is every mark like <|this|> one that the format's turns have, or one that means nothing here? */
static bool knows_marks(const vly_text *text, const vly_chat_format *format)
{
    static const char others[] = "<|begin_of_text|> <|endoftext|> <|eom_id|> <|python_tag|>";
    for (const char *at = strstr(text->data, "<|"); at; at = strstr(at + 2, "<|")) {
        const char *end = strstr(at, "|>");
        if (!end) return true;
        size_t n = (size_t)(end + 2 - at);
        bool known = memmem(others, sizeof others - 1, at, n) != NULL;
        for (int role = 0; role < CHAT_N_ROLES && !known; role++) {
            const vly_chat_turn *turn = &format->turn[role];
            known = memmem(turn->prefix.data, turn->prefix.len, at, n) ||
                    memmem(turn->suffix.data, turn->suffix.len, at, n);
        }
        if (!known) return false;
    }
    return true;
}

/* Does the text spell a user's turn and the assistant's opening as `format` does? */
static int spells(const vly_text *text, const vly_chat_format *format, vly_bytes eos, search how,
                  bool *out)
{
    const vly_chat_turn *user = &format->turn[CHAT_USER];
    vly_text turn = {0}, content = {0}, opening = {0};
    int rc = add_affix(&turn, user->prefix, eos, how.by_role ? "user" : NULL);
    if (how.apart) trim_end(&turn);
    if (rc == 0) rc = vly_text_append(how.apart ? &content : &turn, CONTENT, 1);
    if (rc == 0) rc = add_affix(how.apart ? &content : &turn, user->suffix, eos, NULL);
    if (rc == 0) rc = add_affix(&opening, format->opening, eos, NULL);
    trim_end(&turn);
    trim_end(&content);
    trim_end(&opening);
    *out = rc == 0 && strstr(text->data, turn.data) &&
           (!how.apart || (strstr(text->data, content.data) && knows_marks(text, format))) &&
           (opening.len == 0 || strstr(text->data, opening.data));
    vly_text_free(&turn);
    vly_text_free(&content);
    vly_text_free(&opening);
    return rc;
}

/* The first family whose turns the text spells, to *name. */
static int find_family(const vly_text *text, vly_bytes eos, search how, const char **name)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && !*name && i < vly_chat_n_formats; i++) {
        const vly_chat_format *format = &vly_chat_formats[i];
        bool found = false;
        if (format->shape != CHAT_LLAMA2) rc = spells(text, format, eos, how, &found);
        if (found) *name = format->name;
    }
    return rc;
}

int vly_chat_go_family(vly_bytes source, vly_bytes eos, const char **name, vly_error *err)
{
    static const search searches[] = {{false, false}, {true, false}, {false, true}, {true, true}};
    vly_text text = {0};
    *name = NULL;
    int rc = strip_actions(source, &text);
    if (rc == 0 && strstr(text.data, "<<SYS>>")) {
        /* There the system message stands between what leads a turn and the user's. */
        if (strstr(text.data, "[INST]") && strstr(text.data, "[/INST]")) *name = "llama2";
    } else if (rc == 0) {
        drop_system(&text);
        for (size_t i = 0; rc == 0 && !*name && i < sizeof searches / sizeof *searches; i++)
            rc = find_family(&text, eos, searches[i], name);
    }
    vly_text_free(&text);
    return rc ? vly_fail(err, rc, "no memory for a chat template") : 0;
}
