/* What the files of src/text share. From outside: text/tokenizer.h.
 *
 *   tokenizer.c    the vocabulary from metadata; encode and decode around special tokens
 *   spm.c, bpe.c   the two kinds: their metadata, their text between special tokens
 *   merge.c        merging neighbours by priority, for both kinds
 *   pretokenize.c  the patterns that cut byte-level BPE's text before merging
 *   tables.c       bytes -> id, and special tokens in text
 *   utf8.c         characters */
#ifndef VLY_TEXT_TOKENIZER_INTERNAL_H
#define VLY_TEXT_TOKENIZER_INTERNAL_H

#include "text/tokenizer.h"

/* A longer piece is refused: this bounds what one look-up costs. Real pieces stay below 512. */
#define VLY_PIECE_MAX_BYTES 4096

/* The longest text of one call of encode: positions in it have 31 bits. */
#define VLY_ENCODE_MAX_BYTES ((size_t)INT32_MAX - 1)

typedef struct {
    vly_bytes piece; /* as the vocabulary spells it */
    vly_bytes text;  /* the bytes it stands for; of control tokens, what they look like in text */
    uint32_t order;  /* SentencePiece: the lower, the earlier it is merged */
    uint8_t type;    /* vly_token_type */
    bool is_end;
} vly_token;

/* Text -> token id: open addressing; a slot whose id is VLY_NO_TOKEN is free. */
typedef struct {
    uint32_t hash, id;
} vly_piece_slot;

typedef struct {
    vly_piece_slot *slots;
    size_t mask;      /* the number of slots, a power of two, less 1 */
    size_t max_bytes; /* the longest text in the table */
} vly_piece_table;

/* (left id, right id) -> (rank, merged id), likewise; free where merged is VLY_NO_TOKEN. */
typedef struct {
    uint32_t left, right, rank, merged;
} vly_merge_slot;

typedef struct {
    vly_merge_slot *slots;
    size_t mask;
} vly_merge_table;

/* Symbols are a linked list in an array: the text that is being merged. */
typedef struct {
    uint32_t id;        /* or VLY_NO_TOKEN: no piece spells it */
    uint32_t at;        /* its first byte in the text being encoded */
    uint32_t n_bytes;   /* 0 once it was merged into its left neighbour */
    int32_t prev, next; /* or -1 */
} vly_symbol;

typedef struct {
    uint64_t key;     /* order << 32 | index of the left symbol: the smallest merges first */
    uint32_t merged;  /* the id that the two become */
    uint32_t n_bytes; /* of both: tells whether they are still the two that were queued */
} vly_merge_candidate;

typedef struct vly_pretokenizer vly_pretokenizer;
typedef struct vly_tokenizer_kind vly_tokenizer_kind;

/* The working memory of encoding. Zero-initialise. Once memory was short, anything may be left in
 * it; what counts is emptied before each text. */
struct vly_encode_work {
    vly_symbol *symbols;
    size_t n_symbols, cap_symbols;
    vly_merge_candidate *heap;
    size_t n_heap;   /* it has room for 2 * cap_symbols */
    void *match;     /* the pre-tokenizer's; freed by vly_pretokenizer_match_free */
    vly_text normal; /* SentencePiece: the text with its spaces as the pieces have them */
};

struct vly_tokenizer {
    const vly_tokenizer_kind *kind;
    uint32_t n_vocab;
    vly_token *tokens;
    char *arena;            /* the bytes behind every view in `tokens` */
    vly_piece_table pieces; /* by text: the tokens that plain text can become */
    uint32_t byte_id[256];  /* SentencePiece: <0xXX>; BPE: the piece of one byte; or VLY_NO_TOKEN */
    uint32_t *specials;     /* control and user-defined ids, sorted by text, each text once */
    uint32_t n_specials;
    uint32_t special_first[257]; /* those that start with byte b: [special_first[b], [b + 1]) */
    bool has_user_defined;
    uint32_t bos, eos, unknown;
    bool adds_bos;
    bool space_prefix;
    /* Where no token of text spans a place it is a cut: before a space that follows a byte which is
     * no white space, and before and after a newline. */
    bool cuts_words, cuts_lines;
    bool words_split;               /* SentencePiece: no piece has a space behind another byte */
    vly_merge_table merges;         /* BPE */
    vly_pretokenizer *pretokenizer; /* BPE */
};

/* One kind of vocabulary (tokenizer.ggml.model). */
struct vly_tokenizer_kind {
    const char *name;
    bool adds_bos; /* where tokenizer.ggml.add_bos_token is missing */
    /* Writes what a token of the piece and type stands for to `out` (room for piece.len bytes);
     * returns its length, or SIZE_MAX where the piece is not one of that type. */
    size_t (*text_of)(vly_bytes piece, vly_token_type type, char *out);
    /* Reads what only this kind has, once tokens and tables stand. */
    int (*load)(vly_tokenizer *t, const vly_gguf *gguf, vly_error *err);
    /* Appends the ids of text that has no control tokens. `prefix`: a dummy space goes before it.
     */
    int (*encode)(const vly_tokenizer *t, vly_encode_work *work, vly_bytes text, bool prefix,
                  vly_ids *out, vly_error *err);
    /* Do two neighbours merge, into what, and how early? `text` is what `at` counts in. */
    bool (*pair)(const vly_tokenizer *t, const char *text, const vly_symbol *left,
                 const vly_symbol *right, uint32_t *order, uint32_t *merged);
};

extern const vly_tokenizer_kind vly_tokenizer_spm, vly_tokenizer_bpe;

/* --- tokenizer.c */

/* The array at `key`, of the item type that `strings` or `floats` asks for (neither: integers), as
 * long as `count` unless that is UINT64_MAX. VLY_E_FORMAT names the key. */
typedef enum { VLY_ITEMS_STRING, VLY_ITEMS_FLOAT, VLY_ITEMS_INT } vly_items;
int vly_tokenizer_array(const vly_gguf *gguf, const char *key, vly_items items, uint64_t count,
                        const vly_gguf_entry **out, vly_error *err);

/* --- tables.c */

/* Room for `n` entries at a load of at most a half. 0 or VLY_E_HOST_MEMORY. */
int vly_piece_table_init(vly_piece_table *table, size_t n);
int vly_merge_table_init(vly_merge_table *table, size_t n);

/* Adds tokens[id] by its text unless that is empty or in the table already: the first stays. */
void vly_piece_table_add(vly_tokenizer *t, uint32_t id);
/* VLY_NO_TOKEN where there is none. */
uint32_t vly_piece_table_find(const vly_tokenizer *t, const char *text, size_t n);

/* The first rank of a pair stays. */
void vly_merge_table_add(vly_merge_table *table, uint32_t left, uint32_t right, uint32_t rank,
                         uint32_t merged);
/* NULL where the two do not merge. */
const vly_merge_slot *vly_merge_table_find(const vly_merge_table *table, uint32_t left,
                                           uint32_t right);

/* Collects and sorts t->specials. 0 or VLY_E_HOST_MEMORY. */
int vly_specials_init(vly_tokenizer *t);
/* The longest special token that text[at] starts, or VLY_NO_TOKEN. User-defined tokens always
 * count, control tokens where `control` is set. O(length of the longest * log n_specials). */
uint32_t vly_special_at(const vly_tokenizer *t, const char *text, size_t len, size_t at,
                        bool control);

/* --- merge.c */

/* Room for more symbols, twice as many. 0 or VLY_E_HOST_MEMORY. */
int vly_merge_reserve(vly_encode_work *work);
/* Appends a symbol of `n_bytes` at `at`. 0 or VLY_E_HOST_MEMORY. */
int vly_merge_push(vly_encode_work *work, uint32_t id, size_t at, size_t n_bytes);
/* Merges work->symbols until nothing merges: lowest order first, leftmost among equals. What is
 * left is the list that starts at symbol 0. The caller sets n_symbols to 0 once it has read the
 * list. O(n log n) in the symbols. */
void vly_merge_run(const vly_tokenizer *t, vly_encode_work *work, const char *text);

/* --- pretokenize.c */

/* Compiles the pattern that tokenizer.ggml.pre names. VLY_E_UNSUPPORTED lists those that there are.
 */
int vly_pretokenizer_create(vly_bytes name, vly_pretokenizer **out, vly_error *err);
void vly_pretokenizer_destroy(vly_pretokenizer *p);
/* Does a pre-token that is a piece become that piece, merges or not? */
bool vly_pretokenizer_keeps_pieces(const vly_pretokenizer *p);
/* Does this family of vocabularies start its texts with BOS where the file does not say? */
bool vly_pretokenizer_adds_bos(const vly_pretokenizer *p);
/* How many bytes (> 0) of `text` its first pre-token takes; `text` is valid UTF-8 and not empty.
 * *match is NULL before the first call, and belongs to the calls of one thread. VLY_E_HOST_MEMORY.
 */
int vly_pretokenizer_next(const vly_pretokenizer *p, void **match, const char *text, size_t len,
                          size_t *n, vly_error *err);
void vly_pretokenizer_match_free(void *match);

/* --- utf8.c */

typedef enum { VLY_UTF8_CHAR, VLY_UTF8_BAD, VLY_UTF8_PARTIAL } vly_utf8_kind;

/* What is at the front of `n` > 0 bytes: a character of *len bytes, a maximal ill-formed
 * subsequence of *len bytes (Unicode 15.0, 3.9), or *len = n bytes that more bytes could complete.
 */
vly_utf8_kind vly_utf8_next(const char *bytes, size_t n, size_t *len);

#endif
