/* Which family a model's template belongs to, and what varies within the family: found by what the
 * skeleton of its source spells. What is not understood is refused: a prompt that is nearly right
 * makes a model silently worse. */
#include "text/chat_template_internal.h"

#include <string.h>

#define Q       CHAT_QUOTE
#define R       CHAT_RAW
#define CONTENT "message[" Q "content" Q "]"

static const vly_bytes nothing;

/* ---- Searching the skeleton ---- */

/* Where `mark` begins at or behind `from`; NULL if nowhere. */
static const char *find_from(const vly_text *s, const char *from, const char *mark)
{
    return from ? memmem(from, (size_t)(s->data + s->len - from), mark, strlen(mark)) : NULL;
}

static const char *find(const vly_text *s, const char *mark)
{
    return find_from(s, s->data, mark);
}

static bool has(const vly_text *s, const char *mark)
{
    return find(s, mark) != NULL;
}

static bool is_edge(char c)
{
    return c == *Q || c == *R;
}

/* The whole literal or stretch of text that `at` lies in. */
static vly_bytes literal_around(const vly_text *s, const char *at)
{
    const char *from = at, *to = at, *end = s->data + s->len;
    while (from > s->data && !is_edge(from[-1])) from--;
    while (to < end && !is_edge(*to)) to++;
    return (vly_bytes){from, (size_t)(to - from)};
}

static bool same(vly_bytes a, vly_bytes b)
{
    return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

static bool equals(vly_bytes a, const char *text)
{
    return same(a, (vly_bytes){text, strlen(text)});
}

/* Does it give out text from outside of tags, other than beside an exception? */
static bool has_text(const vly_text *s)
{
    static const char raise[] = "{{raise_exception(";
    for (const char *at = find(s, R); at; at = find_from(s, at, R)) {
        vly_bytes text = literal_around(s, at + 1);
        const char *before = at, *after = text.data + text.len + 1;
        while (before - s->data >= 2 && memcmp(before, "{{", 2) && memcmp(before, "{%", 2))
            before--;
        if (strncmp(before, raise, sizeof raise - 1) != 0 &&
            strncmp(after, raise, sizeof raise - 1) != 0)
            return true;
        at = after;
    }
    return false;
}

static int refuse(vly_error *err, const char *what)
{
    return vly_fail(err, VLY_E_UNSUPPORTED, "%s", what);
}

/* All literals with `mark` are one and the same, which becomes *affix. */
static int read_affix(const vly_text *s, const char *mark, vly_bytes *affix, vly_error *err)
{
    *affix = nothing;
    for (const char *at = find(s, mark); at; at = find_from(s, at + 1, mark)) {
        vly_bytes literal = literal_around(s, at);
        if (affix->data && !same(literal, *affix))
            return vly_fail(err, VLY_E_UNSUPPORTED, "it spells %s in more than one way", mark);
        *affix = literal;
    }
    return 0;
}

/* Does each control token that the skeleton spells between `open` and `close` occur in `known`,
 * which has them with spaces between? Names the first that does not. */
static int check_marks(const vly_text *s, const char *open, const char *close, const char *known,
                       vly_error *err)
{
    enum { MAX_BYTES = 40 };
    size_t n_open = strlen(open), n_close = strlen(close);
    for (const char *at = find(s, open); at; at = find_from(s, at + n_open, open)) {
        char mark[MAX_BYTES + 3];
        const char *to = at + n_open, *end = s->data + s->len;
        /* Upper case, where brackets alone mark it: the rest is subscripts. */
        while (to < end && to - at < MAX_BYTES - 2 &&
               ((*to >= 'A' && *to <= 'Z') || *to == '_' || *to == '/' ||
                (n_open > 1 && ((*to >= 'a' && *to <= 'z') || (*to >= '0' && *to <= '9')))))
            to++;
        size_t n = (size_t)(to - at) + n_close;
        if (n == n_open + n_close || (size_t)(end - to) < n_close ||
            memcmp(to, close, n_close) != 0)
            continue;
        mark[0] = ' ';
        memcpy(mark + 1, at, n);
        memcpy(mark + 1 + n, " ", 2);
        if (!strstr(known, mark))
            return vly_fail(err, VLY_E_UNSUPPORTED, "it uses%sas no known family does", mark);
    }
    return 0;
}

/* The system message that a template writes where none leads: the text between `open` and `close`
 * within one literal. A system turn that the template puts together otherwise is refused, unless it
 * is there for tools or holds the caller's own message. */
static int find_default_system(vly_chat_template *t, const char *open, const char *close,
                               vly_error *err)
{
    const vly_text *s = &t->skeleton;
    const char *tools = find(s, "{%iftools");
    size_t n_open = strlen(open);
    for (const char *at = find(s, open); at; at = find_from(s, at + n_open, open)) {
        const char *from = at + n_open;
        vly_bytes literal = literal_around(s, at);
        const char *end = literal.data + literal.len;
        size_t n_left = (size_t)(end - from);
        const char *to = n_left ? memmem(from, n_left, close, strlen(close)) : NULL;
        if (to) {
            vly_bytes text = {from, (size_t)(to - from)};
            if (t->format.default_system.data && !same(text, t->format.default_system))
                return refuse(err, "it has more than one default system message");
            t->format.default_system = text;
            continue;
        }
        bool callers = n_left == 0 && (size_t)(s->data + s->len - end) > 2 &&
                       (end[1] == '+' || memcmp(end + 1, "{{", 2) == 0);
        if (!callers && !(n_left == 0 && tools && tools < at))
            return refuse(err, "it puts its system message together in a way of its own");
    }
    return 0;
}

/* ---- The families ---- */

#define ROLE "message[" Q "role" Q "]"

/* Each message between its affixes: in one expression, as text, or by a branch for each role. */
static bool has_chatml_turns(const vly_text *s)
{
    bool text =
        has(s, R "<|im_start|>" R "{{" ROLE "}}" R "\n" R "{{" CONTENT "}}" R "<|im_end|>\n" R);
    bool whole = has(s, Q "<|im_start|>" Q "+" ROLE "+" Q "\n" Q "+");
    bool branches = has(s, Q "<|im_start|>user\n" Q "+" CONTENT "+") &&
                    has(s, Q "<|im_start|>assistant\n" Q "+" CONTENT "+");
    bool ended = has(s, "<|im_end|>\n") || has(s, Q "<|im_end|>" Q "+" Q "\n" Q);
    return ended && (text || ((whole || branches) && !has_text(s)));
}

static int read_chatml(vly_chat_template *t, vly_error *err)
{
    static const char known[] = " <|im_start|> <|im_end|> <|endoftext|> <|vision_start|> "
                                "<|image_pad|> <|video_pad|> <|vision_end|> ";
    const vly_text *s = &t->skeleton;
    vly_chat_format *f = &t->format;
    int rc = check_marks(s, "<|", "|>", known, err);
    if (rc == 0) rc = find_default_system(t, "<|im_start|>system\n", "<|im_end|>", err);
    if (rc) return rc;
    f->bos = has(s, "bos_token");
    if (has(s, "eos_token") || !has_chatml_turns(s))
        return refuse(err, "it has <|im_start|> but is not of ChatML's shape");
    f->last_open = has(s, "(loop.lastandadd_generation_prompt)ornotloop.last");
    f->no_reopening = has(s, "andmessages[-1][" Q "role" Q "]!=" Q "assistant" Q);
    f->thoughts = has(s, "</think>");
    if (f->thoughts && !(has(s, "last_query_index") && has(s, "\n<think>\n")))
        return refuse(err, "it treats an assistant's thoughts in a way of its own");
    /* A model that always thinks has the mark of it in its opening. One that does not say how to
     * open the turn is asked as the others. */
    static const char usual[] = "<|im_start|>assistant\n";
    vly_bytes opening;
    if ((rc = read_affix(s, "<|im_start|>assistant", &opening, err))) return rc;
    if (opening.len &&
        (opening.len < sizeof usual - 1 || memcmp(opening.data, usual, sizeof usual - 1) != 0))
        return refuse(err, "it opens the assistant's turn in a way of its own");
    if (opening.len) f->opening = opening;
    return 0;
}

static int read_mistral(vly_chat_template *t, vly_error *err)
{
    static const char known[] = " [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_CALLS] "
                                "[TOOL_RESULTS] [/TOOL_RESULTS] ";
    const vly_text *s = &t->skeleton;
    vly_chat_format *f = &t->format;
    vly_chat_turn *assistant = &f->turn[CHAT_ASSISTANT];
    int rc = check_marks(s, "[", "]", known, err);
    if (rc == 0) rc = read_affix(s, "[INST]", &f->turn[CHAT_USER].prefix, err);
    if (rc == 0) rc = read_affix(s, "[/INST]", &f->turn[CHAT_USER].suffix, err);
    if (rc) return rc;
    if (!has(s, "{{bos_token}}") || !has(s, "raise_exception") || has_text(s))
        return refuse(err, "it has [INST] but is not of Mistral's shape");
    bool trims = has(s, CONTENT "|trim+eos_token"), plain = has(s, CONTENT "+eos_token");
    if (trims == plain) return refuse(err, "how it ends an assistant's turn is not known");
    assistant->trim = trims;
    assistant->prefix = nothing;
    if (has(s, Q " " Q "+" CONTENT "+eos_token") || has(s, Q " " Q "+" CONTENT "|trim+eos_token"))
        assistant->prefix = (vly_bytes){" ", 1};
    if (has(s, "eos_token+" Q " " Q)) assistant->suffix = (vly_bytes){EOS " ", 2};
    bool first = has(s, "loop.firstandsystem_message"), last = has(s, "loop.lastandsystem_message");
    f->fold = first ? FOLD_FIRST : last ? FOLD_LAST : FOLD_NONE;
    if ((first && last) || (has(s, "system_message") && !first && !last) ||
        ((first || last) && !has(s, "system_message+" Q "\n\n" Q "+" CONTENT)))
        return refuse(err, "where it puts the system message is not known");
    return 0;
}

static int read_llama2(vly_chat_template *t, vly_error *err)
{
    const vly_text *s = &t->skeleton;
    /* That a template of this family strips contents is what tells it from its imitations. */
    if (!has(s, "bos_token+" Q "[INST] " Q "+content|trim+" Q " [/INST]" Q) ||
        !has(s, Q " " Q "+content|trim+" Q " " Q "+eos_token") ||
        !has(s, Q "<<SYS>>\n" Q "+system_message+" Q "\n<</SYS>>\n\n" Q "+" CONTENT) || has_text(s))
        return refuse(err, "it has <<SYS>> but is not of Llama 2's shape");
    if (has(s, "true==true")) return refuse(err, "it has a default system message inside [INST]");
    return 0;
}

/* The literal that `mark` begins; nothing if there is none. */
static vly_bytes literal_at(const vly_text *s, const char *mark)
{
    const char *at = find(s, mark);
    return at ? literal_around(s, at + strlen(mark)) : nothing;
}

static int read_llama3(vly_chat_template *t, vly_error *err)
{
    static const char known[] = " <|start_header_id|> <|end_header_id|> <|eot_id|> <|eom_id|> "
                                "<|python_tag|> <|begin_of_text|> ";
    const vly_text *s = &t->skeleton;
    vly_chat_format *f = &t->format;
    int rc = check_marks(s, "<|", "|>", known, err);
    if (rc) return rc;
    bool trims = has(s, CONTENT "|trim+" Q "<|eot_id|>" Q);
    if (!(trims || has(s, CONTENT "+" Q "<|eot_id|>" Q)) || has_text(s) ||
        !has(s, "<|end_header_id|>\n\n" Q "+" CONTENT))
        return refuse(err, "it has <|start_header_id|> but is not of Llama 3's shape");
    for (int role = 0; role < CHAT_N_ROLES; role++) f->turn[role].trim = trims;
    f->bos = has(s, "bos_token") || has(s, "<|begin_of_text|>");
    f->always_opens = !has(s, "add_generation_prompt");
    if (!has(s, "Cutting Knowledge Date"))
        return find_default_system(t, "<|start_header_id|>system<|end_header_id|>\n\n",
                                   "<|eot_id|>", err);
    f->cutoff = literal_at(s, Q "Cutting Knowledge Date: ");
    f->today = literal_at(s, Q "Today Date: ");
    /* The last: a date from the clock, where there is one, comes in front of it. */
    for (const char *at = find(s, "date_string=" Q); at;
         at = find_from(s, at + 1, "date_string=" Q))
        f->date = literal_around(s, at + strlen("date_string=" Q));
    if (!f->cutoff.data || !f->date.data || !equals(f->today, "Today Date: ") || !trims ||
        f->cutoff.data[f->cutoff.len - 1] != '\n' || has(s, "{%ifsystem_message%}"))
        return refuse(err, "it shows dates otherwise than Llama 3.1");
    return 0;
}

static int read_zephyr(vly_chat_template *t, vly_error *err)
{
    static const char known[] = " <|user|> <|assistant|> <|system|> <|endoftext|> ";
    const vly_text *s = &t->skeleton;
    int rc = check_marks(s, "<|", "|>", known, err);
    if (rc) return rc;
    const char *user = find(s, Q "<|user|>\n" Q "+" CONTENT "+eos_token");
    if (!user || !has(s, Q "<|assistant|>\n" Q "+" CONTENT "+eos_token"))
        return refuse(err, "it has <|user|> but is not of Zephyr's shape");
    /* A newline behind each turn is text of the template, or written with the turn. */
    const char *after = strstr(user, "eos_token") + strlen("eos_token");
    bool text = strncmp(after, "}}" R "\n" R, 5) == 0,
         literal = strncmp(after, "+" Q "\n" Q, 4) == 0;
    for (const char *at = find(s, R); at; at = find_from(s, at + 3, R))
        if (!text || s->data + s->len - at < 3 || memcmp(at, R "\n" R, 3) != 0)
            return refuse(err, "it has <|user|> but is not of Zephyr's shape");
    if (!text && !literal)
        for (int role = 0; role < CHAT_N_ROLES; role++)
            t->format.turn[role].suffix = (vly_bytes){EOS, 1};
    if (has(s, "{{" Q "<|assistant|>" Q "}}") && !has(s, "{{" Q "<|assistant|>" Q "}}" R "\n" R))
        t->format.opening.len--;
    else if (!has(s, "{{" Q "<|assistant|>" Q "}}") && !has(s, "{{" Q "<|assistant|>\n" Q "}}"))
        return refuse(err, "how it opens the assistant's turn is not known");
    return 0;
}

/* In the order of looking: what an earlier row knows a template by, those of later rows may have
 * too. */
static const struct {
    vly_chat_shape shape;
    const char *marks[3]; /* all of these occur */
    int (*read)(vly_chat_template *t, vly_error *err);
} families[] = {
    {CHAT_CHATML, {"<|im_start|>", "<|im_end|>", "role"}, read_chatml},
    {CHAT_LLAMA3, {"<|start_header_id|>", "<|eot_id|>", "role"}, read_llama3},
    {CHAT_LLAMA2, {"[INST]", "<<SYS>>", "role"}, read_llama2},
    {CHAT_MISTRAL, {"[INST]", "[/INST]", "role"}, read_mistral},
    {CHAT_ZEPHYR, {"<|user|>", "<|assistant|>", "eos_token"}, read_zephyr},
};

static int recognise(vly_chat_template *t, vly_error *err)
{
    const vly_text *s = &t->skeleton;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        bool all = true;
        for (int j = 0; j < 3; j++) all = all && has(s, families[i].marks[j]);
        if (!all) continue;
        size_t row = 0;
        while (vly_chat_formats[row].shape != families[i].shape) row++;
        t->format = vly_chat_formats[row];
        return families[i].read(t, err);
    }
    return refuse(err, "it has the marks of none");
}

int vly_chat_recognise(vly_chat_template *t, vly_bytes source, vly_error *err)
{
    enum { MAX_BYTES = 1 << 20 };
    vly_error why = {0};
    int rc = vly_text_append(&t->skeleton, "", 0);
    if (rc) return vly_fail(err, rc, "no memory for a chat template");
    if (source.len > MAX_BYTES)
        rc = vly_fail(&why, VLY_E_UNSUPPORTED, "it has %zu bytes", source.len);
    if (rc == 0) rc = vly_chat_skeleton(source, &t->skeleton, &why);
    if (rc == 0) rc = recognise(t, &why);
    if (rc == VLY_E_HOST_MEMORY) return vly_fail(err, rc, "no memory for a chat template");
    if (rc == 0) return 0;
    vly_text names = {0};
    vly_chat_template_list(&names);
    vly_fail(err, rc,
             "the chat template is of no known family (%s); name the one that the model expects "
             "with --chat-template NAME, or give the template of such a family with "
             "--chat-template FILE. Names: %s",
             why.message, names.data ? names.data : "");
    vly_text_free(&names);
    return rc;
}
