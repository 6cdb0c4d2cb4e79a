#include "text/chat_template_internal.h"

#include <stdlib.h>
#include <string.h>

#define B(text)                                                                                    \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }

const vly_chat_format vly_chat_formats[] = {
#define VLY_CHAT_FORMAT(name_, ...) {.name = name_, __VA_ARGS__},
#include "text/chat_formats.def"
#undef VLY_CHAT_FORMAT
};
const size_t vly_chat_n_formats = sizeof vly_chat_formats / sizeof *vly_chat_formats;

static const char *const role_names[CHAT_N_ROLES] = {"system", "user", "assistant"};

/* ---- Creation ---- */

static const vly_chat_format *find_format(const char *name, size_t len)
{
    for (size_t i = 0; i < vly_chat_n_formats; i++)
        if (strlen(vly_chat_formats[i].name) == len &&
            memcmp(vly_chat_formats[i].name, name, len) == 0)
            return &vly_chat_formats[i];
    return NULL;
}

bool vly_chat_template_has_name(const char *name)
{
    return find_format(name, strlen(name)) != NULL;
}

int vly_chat_template_list(vly_text *out)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < vly_chat_n_formats; i++) {
        const char *name = vly_chat_formats[i].name;
        if (i) rc = vly_text_append(out, ", ", 2);
        if (rc == 0) rc = vly_text_append(out, name, strlen(name));
    }
    return rc;
}

const char *vly_chat_template_name(const vly_chat_template *t)
{
    return t->format.name;
}

/* A terminated copy, also of nothing. */
static char *copy_bytes(vly_bytes bytes)
{
    char *copy = malloc(bytes.len + 1);
    if (!copy) return NULL;
    if (bytes.len) memcpy(copy, bytes.data, bytes.len);
    copy[bytes.len] = '\0';
    return copy;
}

int vly_chat_template_create(vly_bytes source, vly_bytes bos, vly_bytes eos,
                             vly_chat_template **out, vly_error *err)
{
    vly_chat_template *t = calloc(1, sizeof *t);
    if (!t) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a chat template");
    int rc = 0;
    t->bos_len = bos.len;
    t->eos_len = eos.len;
    if (!(t->bos = copy_bytes(bos)) || !(t->eos = copy_bytes(eos)))
        rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a chat template");
    const vly_chat_format *named = find_format(source.data, source.len);
    if (named) t->format = *named;
    if (rc == 0 && !named) rc = vly_chat_recognise(t, source, err);
    if (rc) {
        vly_chat_template_destroy(t);
        return rc;
    }
    *out = t;
    return 0;
}

void vly_chat_template_destroy(vly_chat_template *t)
{
    if (!t) return;
    vly_text_free(&t->skeleton);
    free(t->bos);
    free(t->eos);
    free(t);
}

/* ---- White space ---- */

/* Is it white space to Python's str.strip? */
static bool is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

/* How many bytes the white-space character takes that begins at `p`; 0 for another. The longest has
 * 3 bytes. */
static size_t space_at(const char *p, size_t n)
{
    const unsigned char *u = (const unsigned char *)p;
    if (n >= 1 && u[0] < 0x80) return is_space(u[0]);
    if (n >= 2 && u[0] == 0xC2 && (u[1] & 0xC0) == 0x80) return is_space(u[1]) ? 2 : 0;
    if (n >= 3 && (u[0] & 0xF0) == 0xE0 && (u[1] & 0xC0) == 0x80 && (u[2] & 0xC0) == 0x80)
        return is_space((u[0] & 15u) << 12 | (u[1] & 63u) << 6 | (u[2] & 63u)) ? 3 : 0;
    return 0;
}

static vly_bytes trimmed(vly_bytes text)
{
    for (size_t n; (n = space_at(text.data, text.len)) > 0; text.len -= n) text.data += n;
    for (bool more = true; more && text.len;) {
        more = false;
        for (size_t n = 1; n <= 3 && n <= text.len && !more; n++)
            if (space_at(text.data + text.len - n, n) == n) {
                text.len -= n;
                more = true;
            }
    }
    return text;
}

static vly_bytes without_newlines(vly_bytes text, bool front, bool back)
{
    for (; front && text.len && text.data[0] == '\n'; text.len--) text.data++;
    while (back && text.len && text.data[text.len - 1] == '\n') text.len--;
    return text;
}

/* ---- Rendering ---- */

typedef struct {
    const vly_chat_template *t;
    const vly_chat_message *messages;
    size_t n;
    size_t last_query; /* the last message of a user that is no tool's answer; n - 1 without one */
    vly_bytes system;  /* of the leading system message, where it is folded */
    vly_text *out;
    int rc; /* of the first append that failed; those after it do nothing */
} writer;

static void put(writer *w, vly_bytes text)
{
    if (w->rc == 0 && text.len) w->rc = vly_text_append(w->out, text.data, text.len);
}

/* Affixes, with BOS and EOS as the vocabulary spells them. */
static void put_affix(writer *w, vly_bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == *BOS)
            put(w, (vly_bytes){w->t->bos, w->t->bos_len});
        else if (text.data[i] == *EOS)
            put(w, (vly_bytes){w->t->eos, w->t->eos_len});
        else
            put(w, (vly_bytes){text.data + i, 1});
    }
}

static vly_bytes content_of(const vly_chat_message *m)
{
    return (vly_bytes){m->content ? m->content : "", m->content ? m->content_len : 0};
}

/* Where `mark` begins for the last time (or the first); text.len where it does not occur. */
static size_t find_mark(vly_bytes text, const char *mark, bool last)
{
    size_t n = strlen(mark), found = text.len;
    for (size_t i = 0; i + n <= text.len; i++)
        if (memcmp(text.data + i, mark, n) == 0) {
            found = i;
            if (!last) break;
        }
    return found;
}

/* An assistant's turn in the manner of Qwen3: what stands before </think> is shown only behind the
 * last question, and an empty one even where there is none if the turn is the last. */
static void put_thoughts(writer *w, size_t i, vly_bytes content)
{
    static const char open[] = "<think>", close[] = "</think>";
    vly_bytes thoughts = {"", 0}, answer = content;
    size_t first = find_mark(content, close, false);
    if (first < content.len) {
        size_t last = find_mark(content, close, true) + sizeof close - 1;
        answer = (vly_bytes){content.data + last, content.len - last};
        answer = without_newlines(answer, true, false);
        thoughts = without_newlines((vly_bytes){content.data, first}, false, true);
        size_t begin = find_mark(thoughts, open, true);
        if (begin < thoughts.len) {
            begin += sizeof open - 1;
            thoughts = (vly_bytes){thoughts.data + begin, thoughts.len - begin};
        }
        thoughts = without_newlines(thoughts, true, false);
    }
    if (i > w->last_query && (i + 1 == w->n || thoughts.len)) {
        put(w, (vly_bytes)B("<think>\n"));
        put(w, without_newlines(thoughts, true, true));
        put(w, (vly_bytes)B("\n</think>\n\n"));
        answer = without_newlines(answer, true, false);
    }
    put(w, answer);
}

/* `fold`: with the leading system message in front. */
static int put_turn(writer *w, vly_chat_role role, size_t i, bool fold, bool open)
{
    const vly_chat_format *f = &w->t->format;
    const vly_chat_turn *turn = &f->turn[role];
    vly_bytes content = content_of(&w->messages[i]);
    vly_text folded = {0};
    if (fold) {
        const vly_chat_turn *system = &f->turn[CHAT_SYSTEM];
        writer inner = *w;
        inner.out = &folded;
        put(&inner, system->prefix);
        put(&inner, w->system);
        put(&inner, system->suffix);
        put(&inner, content);
        w->rc = inner.rc;
        content = (vly_bytes){folded.data ? folded.data : "", folded.len};
    }
    put_affix(w, turn->prefix);
    if (role == CHAT_ASSISTANT && f->thoughts)
        put_thoughts(w, i, content);
    else
        put(w, turn->trim ? trimmed(content) : content);
    if (!f->last_open || i + 1 < w->n || open) put_affix(w, turn->suffix);
    vly_text_free(&folded);
    return w->rc;
}

/* The system turn in front that a template writes by itself; `lead` is the caller's message or
 * empty. */
static void put_system(writer *w, vly_bytes lead)
{
    const vly_chat_format *f = &w->t->format;
    const vly_chat_turn *turn = &f->turn[CHAT_SYSTEM];
    put_affix(w, turn->prefix);
    if (f->cutoff.data) {
        put(w, f->cutoff);
        put(w, f->today);
        put(w, f->date);
        put(w, (vly_bytes)B("\n\n"));
    }
    put(w, turn->trim ? trimmed(lead) : lead);
    put_affix(w, turn->suffix);
}

static int role_of(const vly_chat_message *m)
{
    for (int role = 0; role < CHAT_N_ROLES; role++)
        if (m->role && strcmp(m->role, role_names[role]) == 0) return role;
    return -1;
}

/* Does the template take the roles in this order? */
static int check_roles(const vly_chat_template *t, const vly_chat_message *messages, size_t n,
                       vly_error *err)
{
    const vly_chat_format *f = &t->format;
    if (n == 0)
        return vly_fail(err, VLY_E_INVALID, "the conversation has no messages; expected some");
    size_t start = f->fold != FOLD_NONE && role_of(&messages[0]) == CHAT_SYSTEM;
    for (size_t i = 0; i < n; i++) {
        int role = role_of(&messages[i]);
        if (role < 0)
            return vly_fail(err, VLY_E_INVALID,
                            "message %zu has the role '%.64s'; expected system, user or assistant",
                            i, messages[i].role ? messages[i].role : "");
        if (!f->alternates || i < start) continue;
        if (role == CHAT_SYSTEM && i == 0)
            return vly_fail(err, VLY_E_INVALID,
                            "message 0 is a system message; the chat template of this model (%s) "
                            "takes none",
                            f->name);
        if ((role == CHAT_USER) != ((i - start) % 2 == 0) ||
            (role == CHAT_SYSTEM && !f->system_turn))
            return vly_fail(err, VLY_E_INVALID,
                            "message %zu is of role %s; the chat template of this model (%s) "
                            "expects %s there: user and assistant take turns%s",
                            i, role_names[role], f->name,
                            role_names[(i - start) % 2 ? CHAT_ASSISTANT : CHAT_USER],
                            f->fold != FOLD_NONE ? " after an optional system message" : "");
    }
    return 0;
}

/* Qwen3 counts from the last message of a user that does not hand in what a tool answered. */
static size_t find_last_query(const vly_chat_message *messages, size_t n)
{
    static const char open[] = "<tool_response>", close[] = "</tool_response>";
    for (size_t i = n; i-- > 0;) {
        vly_bytes c = content_of(&messages[i]);
        bool answer = c.len >= sizeof open - 1 && c.len >= sizeof close - 1 &&
                      memcmp(c.data, open, sizeof open - 1) == 0 &&
                      memcmp(c.data + c.len - (sizeof close - 1), close, sizeof close - 1) == 0;
        if (role_of(&messages[i]) == CHAT_USER && !answer) return i;
    }
    return n - 1;
}

static void put_conversation(writer *w, bool open)
{
    const vly_chat_format *f = &w->t->format;
    bool lead = role_of(&w->messages[0]) == CHAT_SYSTEM;
    size_t start = 0;
    if (f->bos) put_affix(w, (vly_bytes)B(BOS));
    if (f->fold != FOLD_NONE && lead) {
        w->system = content_of(&w->messages[0]);
        start = 1;
    } else if (f->cutoff.data) {
        put_system(w, lead ? content_of(&w->messages[0]) : (vly_bytes)B(""));
        start = lead;
    } else if (!lead && f->default_system.data) {
        put_system(w, f->default_system);
    }
    for (size_t i = start; i < w->n && w->rc == 0; i++) {
        int role = role_of(&w->messages[i]);
        bool fold = start && f->fold != FOLD_NONE && role == CHAT_USER &&
                    (f->fold == FOLD_FIRST ? i == start : i + 1 == w->n);
        put_turn(w, (vly_chat_role)role, i, fold, open);
    }
    bool answered = role_of(&w->messages[w->n - 1]) == CHAT_ASSISTANT;
    if ((open && !(f->no_reopening && answered)) || f->always_opens) put_affix(w, f->opening);
}

int vly_chat_template_render(const vly_chat_template *t, const vly_chat_message *messages, size_t n,
                             bool open, vly_text *out, vly_error *err)
{
    int rc = check_roles(t, messages, n, err);
    if (rc) return rc;
    size_t before = out->len;
    writer w = {.t = t, .messages = messages, .n = n, .out = out};
    if (t->format.thoughts) w.last_query = find_last_query(messages, n);
    put_conversation(&w, open);
    if (w.rc == 0) return 0;
    out->len = before;
    if (out->data) out->data[before] = '\0';
    return vly_fail(err, w.rc, "no memory for the text of a conversation");
}
