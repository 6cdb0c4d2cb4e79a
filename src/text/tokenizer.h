/* Tokenizers made from a GGUF file's metadata: SentencePiece BPE ("llama") and byte-level BPE
 * ("gpt2"). A tokenizer never changes after creation and may be shared. */
#ifndef VLY_TEXT_TOKENIZER_H
#define VLY_TEXT_TOKENIZER_H

#include "base/error.h"
#include "base/vec.h"
#include "gguf/gguf.h"

typedef struct vly_tokenizer vly_tokenizer;

#define VLY_NO_TOKEN UINT32_MAX

typedef enum {
    VLY_TOKEN_NORMAL = 1,
    VLY_TOKEN_UNKNOWN = 2,
    VLY_TOKEN_CONTROL = 3,
    VLY_TOKEN_USER_DEFINED = 4,
    VLY_TOKEN_UNUSED = 5,
    VLY_TOKEN_BYTE = 6
} vly_token_type;

enum {
    VLY_ENCODE_BOS = 1,           /* BOS in front, where the vocabulary has one, unless it is parsed
                                     from the text itself */
    VLY_ENCODE_PARSE_SPECIAL = 2, /* text that spells a control token becomes that token */
    VLY_ENCODE_CONTINUE = 4       /* the text goes on from earlier text: no dummy space prefix */
};

/* Reads tokenizer.ggml.* of `gguf`; what is needed is copied, so the file may be closed. Errors:
 * VLY_E_FORMAT (a key is missing, of another type, or inconsistent), VLY_E_UNSUPPORTED (an unknown
 * tokenizer.ggml.model or .pre: names it and those that work), VLY_E_HOST_MEMORY. */
int vly_tokenizer_create(const vly_gguf *gguf, vly_tokenizer **out, vly_error *err);
void vly_tokenizer_destroy(vly_tokenizer *tokenizer);

uint32_t vly_tokenizer_n_vocab(const vly_tokenizer *tokenizer);

/* Special tokens; VLY_NO_TOKEN where the vocabulary has none. */
uint32_t vly_tokenizer_bos(const vly_tokenizer *tokenizer);
uint32_t vly_tokenizer_eos(const vly_tokenizer *tokenizer);

/* Does the model end its text with `id`? True of the EOS, of tokenizer.ggml.eot_token_id /
 * eom_token_id, and of control tokens that are known ends of a turn by their text
 * (<|im_end|>, <|eot_id|>, <|end|>, <end_of_turn>, <|endoftext|>, </s>...). */
bool vly_tokenizer_is_end(const vly_tokenizer *tokenizer, uint32_t id);

/* Does the vocabulary ask for a BOS before a prompt (tokenizer.ggml.add_bos_token)? */
bool vly_tokenizer_adds_bos(const vly_tokenizer *tokenizer);

vly_token_type vly_tokenizer_type(const vly_tokenizer *tokenizer, uint32_t id);

/* The piece as the vocabulary spells it ("▁the", "Ġthe", "<0x0A>"). Static. */
vly_bytes vly_tokenizer_piece(const vly_tokenizer *tokenizer, uint32_t id);

/* The exact bytes that the token stands for in text (" the", " the", "\n"); empty for control and
 * unknown tokens. Static. */
vly_bytes vly_tokenizer_bytes(const vly_tokenizer *tokenizer, uint32_t id);

/* Does encoding put a dummy space before text (SentencePiece's add_space_prefix)? Then decoding
 * from the very start of a text drops that one space. */
bool vly_tokenizer_space_prefix(const vly_tokenizer *tokenizer);

/* Appends the ids of `len` bytes of text (any bytes; need not be UTF-8) to `out`; `flags` are
 * VLY_ENCODE_*. Time is near linear in len. Bytes that the vocabulary cannot spell are left out
 * (SentencePiece without byte tokens: the unknown token instead). SentencePiece reads U+2581 in
 * text as a space, which is how it writes spaces; its dummy space stands before the text and before
 * what follows a control token, unless a space follows there. Special tokens: at each place the
 * longest that the text spells; user-defined ones always, control tokens where asked for.
 * Thread-safe. Errors, with `out` as long as before: VLY_E_HOST_MEMORY, VLY_E_INVALID (text of 2
 * GiB or more). */
int vly_tokenizer_encode(const vly_tokenizer *tokenizer, const char *text, size_t len,
                         unsigned flags, vly_ids *out, vly_error *err);

/* Working memory of encoding, for any tokenizer and one thread at a time. It grows to what the
 * longest word needed. */
typedef struct vly_encode_work vly_encode_work;
/* NULL without memory. */
vly_encode_work *vly_encode_work_create(void);
void vly_encode_work_destroy(vly_encode_work *work); /* NULL is left alone */

/* The same as vly_tokenizer_encode, without allocating once `work` has grown. */
int vly_tokenizer_encode_with(const vly_tokenizer *tokenizer, vly_encode_work *work,
                              const char *text, size_t len, unsigned flags, vly_ids *out,
                              vly_error *err);

/* Is text always cut between these two bytes? Then what lies on either side of such a place is
 * encoded as it is in the whole (what is behind with VLY_ENCODE_CONTINUE), whatever else is there.
 * Before a space that follows a word, unless a piece spans such a place; and beside a newline where
 * that is always a token of its own. */
bool vly_tokenizer_cuts(const vly_tokenizer *tokenizer, uint8_t before, uint8_t after);

/* Appends the bytes of `n` ids to `out`: control tokens give nothing, nor do ids that the
 * vocabulary does not have; where `at_start`, one leading space that the dummy prefix made is
 * dropped. 0 or VLY_E_HOST_MEMORY. */
int vly_tokenizer_decode(const vly_tokenizer *tokenizer, const uint32_t *ids, size_t n,
                         bool at_start, vly_text *out);

/* Splits a stream of bytes into whole UTF-8: holds back at most 3 bytes of an unfinished character.
 * Zero-initialise. */
typedef struct {
    char held[4];
    size_t n_held;
} vly_utf8_stream;

/* Appends to `out` everything of held + `bytes` that ends on a character boundary. Bytes that can
 * never become UTF-8 come out as U+FFFD, one for each maximal ill-formed subsequence (Unicode 15.0,
 * section 3.9, table 3-8). */
int vly_utf8_stream_push(vly_utf8_stream *stream, const char *bytes, size_t n, vly_text *out);
/* The end of the text: what is held comes out as U+FFFD. */
int vly_utf8_stream_finish(vly_utf8_stream *stream, vly_text *out);

#endif
