#include "gguf/synthetic.h"

#include "base/vec.h"
#include "gguf/gguf.h"
#include "gguf/random_blocks.h"
#include "gguf/synthetic_shape.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POOL_BYTES (4u << 20) /* of random weights of a format, at least */
#define N_CONTROL  3u         /* <unk>, <s>, </s> */
#define NAME_BYTES 40
/* Words that all families spell alike: about as many as SmolLM2 and Mistral have in common. */
#define SHARED_WORDS 18432u

typedef struct {
    char name[NAME_BYTES];
    uint32_t n_dims, dims[2];
    const vly_format *format; /* NULL: f32, all of one value */
    float value;
    uint64_t offset, n_bytes; /* from the first tensor; starts on a page */
} tensor;

typedef struct {
    const char *name;
    vly_synthetic_shape shape;
    uint64_t page_bytes;
    tensor *tensors;
    uint32_t n_tensors;
    uint64_t data_bytes;
    vly_text head; /* all before the tensors */
    bool no_memory;
    int pool[VLY_N_FORMATS]; /* memory files; 0: none yet */
    uint64_t pool_bytes[VLY_N_FORMATS], pool_unit[VLY_N_FORMATS];
} image;

bool vly_synthetic_is(const char *path)
{
    return strncmp(path, VLY_SYNTHETIC_PREFIX, strlen(VLY_SYNTHETIC_PREFIX)) == 0;
}

/* ---- Tensors ---- */

static uint64_t to_pages(const image *m, uint64_t n)
{
    return (n + m->page_bytes - 1) / m->page_bytes * m->page_bytes;
}

static tensor *add_tensor(image *m, uint32_t n_dims, uint32_t columns, uint32_t rows,
                          const vly_format *format)
{
    tensor *t = &m->tensors[m->n_tensors++];
    *t = (tensor){.n_dims = n_dims, .dims = {columns, rows}, .format = format};
    const vly_format *f = format ? format : vly_format_by_id(VLY_FORMAT_f32);
    t->offset = m->data_bytes;
    t->n_bytes = (uint64_t)(columns / f->block_weights) * f->block_bytes * rows;
    m->data_bytes += to_pages(m, t->n_bytes);
    return t;
}

static tensor *add_vector(image *m, uint32_t n, float value)
{
    tensor *t = add_tensor(m, 1, n, 1, NULL);
    t->value = value;
    return t;
}

/* Of Q, K and V. */
static bool has_biases(const vly_synthetic_shape *s)
{
    return strcmp(s->arch, "qwen2") == 0;
}

static void add_matrix(image *m, const char *name, vly_synthetic_role role, uint32_t columns,
                       uint32_t rows)
{
    const vly_format *format = vly_synthetic_format(&m->shape, role, 0, columns);
    snprintf(add_tensor(m, 2, columns, rows, format)->name, NAME_BYTES, "%s.weight", name);
}

static void add_layer(image *m, uint32_t layer)
{
    const vly_synthetic_shape *s = &m->shape;
    uint32_t q = s->n_head * s->head_dim, kv = s->n_head_kv * s->head_dim;
    const struct {
        const char *name;
        vly_synthetic_role role;
        uint32_t columns, rows;
    } matrices[] = {
        {"attn_q", VLY_SYNTHETIC_OTHER, s->dim, q},
        {"attn_k", VLY_SYNTHETIC_OTHER, s->dim, kv},
        {"attn_v", VLY_SYNTHETIC_V, s->dim, kv},
        {"attn_output", VLY_SYNTHETIC_OTHER, q, s->dim},
        {"ffn_gate", VLY_SYNTHETIC_OTHER, s->dim, s->ff_dim},
        {"ffn_up", VLY_SYNTHETIC_OTHER, s->dim, s->ff_dim},
        {"ffn_down", VLY_SYNTHETIC_DOWN, s->ff_dim, s->dim},
    };
    static const char *const norms[] = {"attn_norm", "ffn_norm"};
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) {
        const vly_format *format =
            vly_synthetic_format(s, matrices[i].role, layer, matrices[i].columns);
        tensor *t = add_tensor(m, 2, matrices[i].columns, matrices[i].rows, format);
        snprintf(t->name, NAME_BYTES, "blk.%u.%s.weight", layer, matrices[i].name);
    }
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++)
        snprintf(add_vector(m, s->dim, 1)->name, NAME_BYTES, "blk.%u.%s.weight", layer, norms[i]);
    for (size_t i = 0; has_biases(s) && i < 3; i++)
        snprintf(add_vector(m, matrices[i].rows, 0)->name, NAME_BYTES, "blk.%u.%s.bias", layer,
                 matrices[i].name);
}

static int plan_tensors(image *m, vly_error *err)
{
    const vly_synthetic_shape *s = &m->shape;
    m->tensors = calloc(12 * (size_t)s->n_layer + 3, sizeof *m->tensors);
    if (!m->tensors) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a model's plan");
    add_matrix(m, "token_embd", VLY_SYNTHETIC_EMBED, s->dim, s->n_vocab);
    for (uint32_t i = 0; i < s->n_layer; i++) add_layer(m, i);
    snprintf(add_vector(m, s->dim, 1)->name, NAME_BYTES, "output_norm.weight");
    if (!s->tied_head) add_matrix(m, "output", VLY_SYNTHETIC_HEAD, s->dim, s->n_vocab);
    return 0;
}

/* ---- The head of the file ---- */

static void put(image *m, const void *data, size_t n)
{
    if (vly_text_append(&m->head, data, n)) m->no_memory = true;
}

static void put_number(image *m, uint64_t value, size_t n_bytes)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < n_bytes; i++) bytes[i] = (uint8_t)(value >> 8 * i);
    put(m, bytes, n_bytes);
}

static void put_string(image *m, const char *text)
{
    put_number(m, strlen(text), 8);
    put(m, text, strlen(text));
}

static void put_float(image *m, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_number(m, bits, 4);
}

static void put_key(image *m, const char *key, vly_gguf_type type)
{
    put_string(m, key);
    put_number(m, type, 4);
}

/* A key of the architecture's. */
static const char *arch_key(const image *m, const char *suffix, char out[64])
{
    snprintf(out, 64, "%s.%s", m->shape.arch, suffix);
    return out;
}

static void put_u32_entry(image *m, const char *key, uint32_t value)
{
    put_key(m, key, VLY_GGUF_U32);
    put_number(m, value, 4);
}

static void put_float_entry(image *m, const char *key, float value)
{
    put_key(m, key, VLY_GGUF_F32);
    put_float(m, value);
}

static void put_string_entry(image *m, const char *key, const char *value)
{
    put_key(m, key, VLY_GGUF_STRING);
    put_string(m, value);
}

static void put_array(image *m, const char *key, vly_gguf_type item)
{
    put_key(m, key, VLY_GGUF_ARRAY);
    put_number(m, item, 4);
    put_number(m, m->shape.n_vocab, 8);
}

/* Word `i` of the vocabulary: a space and then letters, all strings of none, one, two... letters in
 * turn, so that every word but the first is a shorter one and a letter, and any text of whole words
 * encodes to these. Beyond SHARED_WORDS a family's words start with its own letter. */
static void spell_word(const image *m, uint32_t i, char out[16])
{
    size_t n = (size_t)snprintf(out, 16, "\xE2\x96\x81");
    if (i >= SHARED_WORDS) {
        out[n++] = m->shape.family;
        i -= SHARED_WORDS;
    }
    char letters[8];
    size_t n_letters = 0;
    for (; i > 0; i = (i - 1) / 26) letters[n_letters++] = (char)('a' + (i - 1) % 26);
    while (n_letters > 0) out[n++] = letters[--n_letters];
    out[n] = '\0';
}

static void spell_token(const image *m, uint32_t id, char out[16])
{
    static const char *const control[N_CONTROL] = {"<unk>", "<s>", "</s>"};
    if (id < N_CONTROL)
        snprintf(out, 16, "%s", control[id]);
    else if (id < N_CONTROL + 256)
        snprintf(out, 16, "<0x%02X>", id - N_CONTROL);
    else
        spell_word(m, id - N_CONTROL - 256, out);
}

static void put_vocabulary(image *m)
{
    uint32_t n = m->shape.n_vocab;
    put_string_entry(m, "tokenizer.ggml.model", "llama");
    put_array(m, "tokenizer.ggml.tokens", VLY_GGUF_STRING);
    for (uint32_t id = 0; id < n; id++) {
        char piece[16];
        spell_token(m, id, piece);
        put_string(m, piece);
    }
    put_array(m, "tokenizer.ggml.scores", VLY_GGUF_F32);
    for (uint32_t id = 0; id < n; id++) put_float(m, -(float)id);
    put_array(m, "tokenizer.ggml.token_type", VLY_GGUF_I32);
    /* <unk> is unknown (2), <s> and </s> are control (3), then bytes (6) and normal ones (1). */
    for (uint32_t id = 0; id < n; id++)
        put_number(m, id == 0 ? 2 : id < N_CONTROL ? 3 : id < N_CONTROL + 256 ? 6 : 1, 4);
    put_u32_entry(m, "tokenizer.ggml.unknown_token_id", 0);
    put_u32_entry(m, "tokenizer.ggml.bos_token_id", 1);
    put_u32_entry(m, "tokenizer.ggml.eos_token_id", 2);
    put_key(m, "tokenizer.ggml.add_space_prefix", VLY_GGUF_BOOL);
    put_number(m, 0, 1);
}

#define N_ENTRIES 21

static int write_head(image *m, vly_error *err)
{
    const vly_synthetic_shape *s = &m->shape;
    char key[64];
    put(m, "GGUF", 4);
    put_number(m, 3, 4);
    put_number(m, m->n_tensors, 8);
    put_number(m, N_ENTRIES, 8);
    put_string_entry(m, "general.architecture", s->arch);
    put_string_entry(m, "general.name", m->name);
    put_u32_entry(m, "general.alignment", (uint32_t)m->page_bytes);
    put_u32_entry(m, arch_key(m, "block_count", key), s->n_layer);
    put_u32_entry(m, arch_key(m, "embedding_length", key), s->dim);
    put_u32_entry(m, arch_key(m, "feed_forward_length", key), s->ff_dim);
    put_u32_entry(m, arch_key(m, "context_length", key), s->n_ctx);
    put_u32_entry(m, arch_key(m, "attention.head_count", key), s->n_head);
    put_u32_entry(m, arch_key(m, "attention.head_count_kv", key), s->n_head_kv);
    put_u32_entry(m, arch_key(m, "attention.key_length", key), s->head_dim);
    put_u32_entry(m, arch_key(m, "attention.value_length", key), s->head_dim);
    put_float_entry(m, arch_key(m, "attention.layer_norm_rms_epsilon", key), 1e-5f);
    put_float_entry(m, arch_key(m, "rope.freq_base", key), s->rope_base);
    put_vocabulary(m); /* eight entries */
    for (uint32_t i = 0; i < m->n_tensors; i++) {
        const tensor *t = &m->tensors[i];
        put_string(m, t->name);
        put_number(m, t->n_dims, 4);
        for (uint32_t j = 0; j < t->n_dims; j++) put_number(m, t->dims[j], 8);
        put_number(m, (t->format ? t->format : vly_format_by_id(VLY_FORMAT_f32))->ggml_id, 4);
        put_number(m, t->offset, 8);
    }
    if (m->no_memory) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a model's metadata");
    return 0;
}

/* ---- Weights ---- */

static uint64_t common_multiple(uint64_t a, uint64_t b)
{
    uint64_t x = a, y = b;
    while (y) {
        uint64_t rest = x % y;
        x = y;
        y = rest;
    }
    return a / x * b;
}

/* A memory file of random blocks: whole pages of whole blocks, so that it can follow itself. */
static int make_pool(image *m, const vly_format *format, vly_error *err)
{
    uint64_t unit = common_multiple(m->page_bytes, format->block_bytes);
    uint64_t n = (POOL_BYTES + unit - 1) / unit * unit;
    int fd = memfd_create("weights", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)n))
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for random weights: %s",
                        strerror(errno));
    m->pool[format->id] = fd;
    m->pool_bytes[format->id] = n;
    m->pool_unit[format->id] = unit;
    void *data = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for random weights: %s",
                        strerror(errno));
    int rc = vly_random_blocks(format, n / format->block_bytes, data, err);
    munmap(data, n);
    return rc;
}

/* Maps the pool over the tensor, from a place that differs from that of the tensor before. */
static int map_weights(image *m, uint32_t index, uint8_t *at, vly_error *err)
{
    const tensor *t = &m->tensors[index];
    vly_format_id id = t->format->id;
    int rc = m->pool[id] ? 0 : make_pool(m, t->format, err);
    if (rc) return rc;
    uint64_t start = index % (m->pool_bytes[id] / m->pool_unit[id]) * m->pool_unit[id];
    uint64_t n_bytes = to_pages(m, t->n_bytes);
    for (uint64_t done = 0; done < n_bytes; start = 0) {
        uint64_t n = m->pool_bytes[id] - start;
        if (n > n_bytes - done) n = n_bytes - done;
        if (mmap(at + done, n, PROT_READ, MAP_SHARED | MAP_FIXED, m->pool[id], (off_t)start) ==
            MAP_FAILED)
            return vly_fail(err, VLY_E_HOST_MEMORY, "cannot map %llu bytes of random weights: %s",
                            (unsigned long long)n, strerror(errno));
        done += n;
    }
    return 0;
}

static int map_image(image *m, uint64_t n_bytes, uint8_t *data, vly_error *err)
{
    memcpy(data, m->head.data, m->head.len);
    uint8_t *first = data + (n_bytes - m->data_bytes);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < m->n_tensors; i++) {
        uint8_t *at = first + m->tensors[i].offset;
        if (m->tensors[i].format) {
            rc = map_weights(m, i, at, err);
        } else {
            for (uint32_t j = 0; j < m->tensors[i].dims[0]; j++)
                memcpy(at + 4 * (size_t)j, &m->tensors[i].value, sizeof(float));
        }
    }
    return rc;
}

static int build(image *m, void **data, size_t *n_bytes, vly_error *err)
{
    int rc = vly_synthetic_shape_read(m->name, &m->shape, err);
    if (rc || (rc = plan_tensors(m, err)) || (rc = write_head(m, err))) return rc;
    uint64_t n = to_pages(m, m->head.len) + m->data_bytes;
    void *space =
        mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED)
        return vly_fail(err, VLY_E_HOST_MEMORY, "no address space for a model of %.1f GiB: %s",
                        (double)n / 1073741824.0, strerror(errno));
    if ((rc = map_image(m, n, space, err))) {
        munmap(space, n);
        return rc;
    }
    *data = space;
    *n_bytes = n;
    return 0;
}

int vly_synthetic_map(const char *path, void **data, size_t *n_bytes, vly_error *err)
{
    image m = {.name = path + strlen(VLY_SYNTHETIC_PREFIX)};
    m.page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    int rc = build(&m, data, n_bytes, err);
    for (int i = 0; i < VLY_N_FORMATS; i++)
        if (m.pool[i] > 0) close(m.pool[i]);
    vly_text_free(&m.head);
    free(m.tensors);
    return rc ? vly_fail_within(err, "%s", path) : 0;
}
