/* Making the drafting methods of the table. */
#include "drafts/draft.h"

static vly_draft_create_fn *const creators[] = {
#define VLY_DRAFT_METHOD(id, name, create, ...) [VLY_DRAFT_##id] = create,
#include "drafts/methods.def"
#undef VLY_DRAFT_METHOD
};

int vly_draft_create_none(const vly_draft_source *source, vly_draft **out, vly_error *err)
{
    (void)source, (void)err;
    *out = NULL;
    return 0;
}

int vly_draft_check(vly_draft_method method, bool has_model, vly_error *err)
{
    const char *name = vly_draft_method_name(method);
    if (!name) return vly_fail(err, VLY_E_INVALID, "there is no drafting method %d", (int)method);
    if (vly_draft_method_model_use(method) == VLY_MODEL_NEEDED && !has_model)
        return vly_fail(err, VLY_E_INVALID,
                        "drafting method '%s' needs a draft model, and none is loaded", name);
    return 0;
}

int vly_draft_create(vly_draft_method method, const vly_draft_source *source, vly_draft **out,
                     vly_error *err)
{
    int rc = vly_draft_check(method, source->model != NULL, err);
    return rc ? rc : creators[method](source, out, err);
}
