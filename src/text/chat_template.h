/* Chat templates: how a model's conversations are spelled as one text. A model file brings its
 * template as Jinja source; it is not run but recognised as one of the families of
 * chat_formats.def, with what varies within the family (spacing, default system message, date) read
 * from it. Rendering gives what transformers' apply_chat_template gives without tools. */
#ifndef VLY_TEXT_CHAT_TEMPLATE_H
#define VLY_TEXT_CHAT_TEMPLATE_H

#include "base/error.h"
#include "base/vec.h"

typedef struct vly_chat_template vly_chat_template;

/* `source` is a family's name or Jinja source; copied, as are the spellings of the beginning and
 * the end of text. Errors: VLY_E_UNSUPPORTED (no known family: says which there are, and how to
 * name one), VLY_E_HOST_MEMORY. Linear in the source. */
int vly_chat_template_create(vly_bytes source, vly_bytes bos, vly_bytes eos,
                             vly_chat_template **out, vly_error *err);
void vly_chat_template_destroy(vly_chat_template *t);

/* The name of the family that it was recognised as. Static. */
const char *vly_chat_template_name(const vly_chat_template *t);

/* Is `name` a family's? */
bool vly_chat_template_has_name(const char *name);

/* The family whose turns a template in Go's language (as Ollama's store has them) spells, to *name;
 * NULL where it is none's. Linear in the source. Error: VLY_E_HOST_MEMORY. */
int vly_chat_go_family(vly_bytes source, vly_bytes eos, const char **name, vly_error *err);

/* Appends the families' names with commas between. 0 or VLY_E_HOST_MEMORY. */
int vly_chat_template_list(vly_text *out);

/* Appends the conversation's text; with `open`, the assistant's turn opened behind it. The date
 * that some templates show is the one that they fall back to, so that the same messages always give
 * the same text. Errors, with `out` as long as before: VLY_E_INVALID (no message, a role other than
 * system, user and assistant, an order of roles that the template refuses: names the message),
 * VLY_E_HOST_MEMORY. */
int vly_chat_template_render(const vly_chat_template *t, const vly_chat_message *messages, size_t n,
                             bool open, vly_text *out, vly_error *err);

#endif
