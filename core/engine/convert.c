/* convert.c - pl_convert: the job, the copy, what follows it (bitmaps, verification, digest). */
#include "core/engine/convert.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/base/checked.h"
#include "core/engine/bitmaps.h"
#include "core/engine/compare_disks.h"
#include "core/engine/convert_job.h"
#include "core/engine/convert_target.h"
#include "core/engine/ordered.h"
#include "core/engine/source_check.h"

/* The least bytes of a window: large enough for the host, small enough for the caches. */
#define WINDOW_MIN (1u << 20)

/* Zeros are told from data in no smaller pieces. */
#define STEP_MIN 512u

/* Clusters of more parts than that are not reserved ahead; qcow2's subclusters are 32. */
#define HOLES_PARTS_MIN 32u

/* The greatest unit that must not be cut: compressed units of both sides and the target's granule.
 */
static uint32_t window_for(const struct pl_disk *source, const struct pl_image *target)
{
    uint32_t window = PL_MAX(WINDOW_MIN, target->layer.granule);

    window = PL_MAX(window, target->layer.unit_len);
    for (size_t i = 0; i < source->count; i++)
        for (const struct pl_image *img = source->images[i]; img; img = img->parent)
            window = PL_MAX(window, img->layer.unit_len);
    return window;
}

/* Whether the source has compressed units that differ from the target's in their frame alone. */
static bool source_reframes(const struct pl_convert_job *job)
{
    for (size_t i = 0; i < job->source.count; i++)
        for (const struct pl_image *img = job->source.images[i]; img; img = img->parent)
            if (img->layer.codec && pl_can_reframe(img->layer.codec, job->codec))
                return true;
    return false;
}

static int set_packed_room(struct pl_convert_job *job, struct pl_err *e)
{
    const struct pl_layer *layer = &job->target->layer;
    const size_t unit =
        layer->packed_only ? pl_pack_bound(layer->codec, layer->unit_len) : layer->unit_len;
    const uint64_t room =
        pl_round_up(layer->packed_head + (uint64_t)unit, PL_MAX(layer->packed_align, 1u));

    if (room > UINT32_MAX)
        return pl_fail(e, PL_E_LIMIT, "compressed units of %u bytes are too big", layer->unit_len);
    job->packed_room = (uint32_t)room;
    return 0;
}

static int set_compression(struct pl_convert_job *job, struct pl_err *e)
{
    const struct pl_convert_options *options = job->options;
    const struct pl_layer *layer = &job->target->layer;
    uint64_t level = 0;

    if (!options->compress && !layer->packed_only) {
        if (pl_options_text(options->options, "compression_level"))
            return pl_fail(e, PL_E_INVALID, "compression_level needs -c");
        return 0;
    }
    if (!job->target->driver->allocate_packed || !layer->codec)
        return pl_no_slot(job->target, "compression", e);
    job->codec = layer->codec;
    if (pl_options_number(options->options, "compression_level", (uint64_t)job->codec->level_min,
                          (uint64_t)job->codec->level_max, &level, e) < 0)
        return -1;
    job->level = (int)level;
    job->pass_through = level == 0 && job->fresh && !options->salvage;
    job->reframe = job->pass_through && source_reframes(job);
    return set_packed_room(job, e);
}

/* Whether a cluster of the format is written in parts so small that most of it may stay a hole of
 * the file: what is made ahead would be taken for good. */
static bool has_holes(const struct pl_layer *layer)
{
    return layer->cluster_size / HOLES_PARTS_MIN > layer->granule;
}

/* How zeros are told from data, and what becomes of them. */
static int set_sparseness(struct pl_convert_job *job, struct pl_err *e)
{
    const struct pl_layer *layer = &job->target->layer;
    const uint64_t sparse = job->options->sparse;
    const bool plain = layer->plain;

    job->scan = sparse > 0 || layer->packed_only; /* no reader needs packed zeros */
    job->step = job->codec ? layer->unit_len
                           : (uint32_t)pl_round_up(PL_MAX(PL_MIN(sparse, job->window), STEP_MIN),
                                                   layer->granule);
    job->step = PL_MIN(job->step, job->window);
    job->whole = !job->scan && (!plain || !job->fresh || job->sequential);
    job->reserve = plain && job->fresh && !job->sequential && !job->target->file->device;
    job->reserve_file = !plain && job->fresh && !has_holes(layer);
    if (!job->scan && job->reserve) {
        job->reserve = false;
        return pl_storage_preallocate(job->target->file, 0, layer->size, PL_PREALLOC_FALLOC, e);
    }
    return 0;
}

static int prepare(struct pl_convert_job *job, struct pl_err *e)
{
    const struct pl_convert_options *options = job->options;
    struct pl_storage *file = job->target->file;

    job->fresh = !options->existing;
    job->over_parent = job->fresh && job->target->parent;
    job->sequential = file->sequential;
    job->rate = pl_rate_start(options->rate_limit, options->report);
    job->window = window_for(&job->source, job->target);
    job->write_zeros = !options->target_is_zero && (!job->fresh || !job->target->layer.sparse_new);
    if (set_compression(job, e) < 0 || set_sparseness(job, e) < 0)
        return -1;
    job->share = job->fresh && !job->over_parent && !job->codec && !job->sequential &&
                 !options->no_share && !options->salvage &&
                 pl_storage_can_share(file, job->source.images[0]->file);
    /* shared blocks would only replace what was made ahead */
    job->reserve = job->reserve && !job->share;
    job->reserve_file = job->reserve_file && !job->share;
    return 0;
}

/* Runs the steps of the job to their end. */
static int copy(void *ctx, struct pl_err *e)
{
    struct pl_convert_job *job = ctx;
    const struct pl_ordered_job run = {
        .ctx = job,
        .workers = job->options->workers,
        .report = job->options->report,
        .new_unit = pl_convert_new_unit,
        .free_unit = pl_convert_free_unit,
        .next = pl_convert_next,
        .work = pl_convert_work,
        .place = pl_convert_place,
        .finish = pl_convert_finish,
    };

    if (pl_run_ordered(&run, e) < 0)
        return -1;
    if (job->reserve && pl_convert_punch(job, e) < 0)
        return -1;
    if (!job->sequential || job->target->layer.packed_only)
        return 0;
    return pl_storage_resize(job->target->file, job->source.size, e); /* zeros at the end */
}

static int verify(struct pl_convert_job *job, struct pl_err *e)
{
    struct pl_image *const images[] = { job->target };
    struct pl_compare_result result;
    struct pl_disk written;
    int status;

    if (pl_disk_init(&written, images, 1, e) < 0)
        return -1;
    written.size = job->source.size; /* the rest is the format's rounding */
    status = pl_compare_disks(&job->source, &written, job->options->workers, job->options->report,
                              &result, e);
    pl_disk_free(&written);
    if (status == 0 && !result.equal)
        return pl_fail(e, PL_E_MISMATCH,
                       "what was written differs from the source at guest address 0x%" PRIx64,
                       result.offset);
    return status;
}

static int digest(struct pl_convert_job *job, char hex[static 130], struct pl_err *e)
{
    struct pl_image *const images[] = { job->target };
    struct pl_disk written;
    int status;

    if (!job->readable)
        return pl_checksum_disk(&job->source, job->options->checksum, hex, job->options->report, e);
    if (pl_disk_init(&written, images, 1, e) < 0)
        return -1;
    written.size = job->source.size;
    status = pl_checksum_disk(&written, job->options->checksum, hex, job->options->report, e);
    pl_disk_free(&written);
    return status;
}

/* What is asked for beyond the copy. */
static int follow_up(struct pl_convert_job *job, struct pl_convert_target *target,
                     struct pl_convert_result *result, struct pl_err *e)
{
    const struct pl_convert_options *options = job->options;

    if (options->bitmaps && pl_copy_bitmaps(job->source.images[0], job->target,
                                            options->skip_broken_bitmaps, options->report, e) < 0)
        return -1;
    if ((options->verify || options->checksum) && job->readable &&
        pl_convert_reread_target(target, e) < 0)
        return -1;
    job->target = target->img;
    if (options->verify && verify(job, e) < 0)
        return -1;
    return options->checksum ? digest(job, result->checksum, e) : 0;
}

static int check_request(struct pl_image *const *sources, size_t count,
                         const struct pl_convert_options *options, struct pl_err *e)
{
    if (count == 0)
        return pl_fail(e, PL_E_INVALID, "there is no input to convert");
    if (options->bitmaps && count > 1)
        return pl_fail(e, PL_E_INVALID, "copying bitmaps is only possible with single source");
    if (options->target_is_zero && !options->existing)
        return pl_fail(e, PL_E_INVALID, "--target-is-zero requires use of -n flag");
    if (options->checksum && pl_checksum_known(options->checksum, e) < 0)
        return -1;
    if (options->bitmaps && !options->skip_broken_bitmaps)
        return pl_refuse_broken_bitmaps(sources[0], e);
    return 0;
}

/* What only the open target tells, before hours of copying. */
static int check_target(const struct pl_convert_job *job, struct pl_err *e)
{
    if (job->options->verify && !job->readable)
        return pl_fail(e, PL_E_INVALID, "a stream cannot be read again to verify it");
    return job->options->bitmaps ? pl_check_bitmaps_fit(job->source.images[0], job->target, e) : 0;
}

static int convert_into(struct pl_convert_job *job, struct pl_convert_target *target,
                        struct pl_convert_result *result, struct pl_err *e)
{
    int status;

    job->target = target->img;
    job->readable = !target->img->file->sequential || target->created.packer;
    status = prepare(job, e);
    if (status == 0)
        status = check_target(job, e);
    if (status == 0)
        status = pl_run_beside_source_check(&job->source, job->options->report, copy, job, e);
    if (status == 0)
        status = follow_up(job, target, result, e);
    free(job->holes);
    if (status == 0)
        result->size = pl_size(job->target);
    result->copied = job->copied;
    result->shared = job->shared;
    result->passed = job->passed;
    result->zero = job->zero;
    return status;
}

int pl_convert(struct pl_image *const *sources, size_t count, const char *path,
               const struct pl_convert_options *options, struct pl_convert_result *result,
               struct pl_err *e)
{
    struct pl_convert_job job = { .options = options };
    struct pl_convert_result own = { 0 };
    struct pl_convert_result *out = result ? result : &own;
    struct pl_convert_target target;
    int status;

    *out = (struct pl_convert_result){ 0 };
    if (check_request(sources, count, options, e) < 0 ||
        pl_disk_init(&job.source, sources, count, e) < 0)
        return -1;
    if (options->part)
        pl_disk_cut(&job.source, options->part->skip, options->part->len);
    status = pl_convert_open_target(&target, &job.source, path, options, e);
    if (status == 0) {
        status = convert_into(&job, &target, out, e);
        if (status == 0)
            status = pl_convert_finish_target(&target, e);
        else
            pl_convert_drop_target(&target);
    }
    pl_disk_free(&job.source);
    return status;
}
