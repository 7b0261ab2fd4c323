/* usage: convert IMAGE OUT
 * Opens an image of any format, walks its map, reads its first sector, makes a qcow2 copy. */
#include <inttypes.h>
#include <stdio.h>

#include <platter.h>

static int copy(struct pl_image *img, const char *out, struct pl_err *e)
{
    const struct pl_convert_options options = { .format = "qcow2", .sparse = PL_SPARSE_DEFAULT };
    unsigned char sector[512] = { 0 };
    struct pl_run run;

    for (uint64_t at = 0; at < pl_size(img); at += run.len) {
        if (pl_map(img, at, pl_size(img) - at, &run, e) < 0)
            return -1;
        printf("%12" PRIu64 " +%-12" PRIu64 " %s\n", run.at, run.len, run.zero ? "zero" : "data");
    }
    if (pl_size(img) >= sizeof sector && pl_read(img, 0, sector, sizeof sector, e) < 0)
        return -1;
    printf("boot signature: %02x %02x\n", sector[510], sector[511]);
    return pl_convert(&img, 1, out, &options, NULL, e);
}

int main(int argc, char **argv)
{
    struct pl_err e = { 0 };
    struct pl_image *img = NULL;
    int failed = argc != 3 || pl_open(argv[1], NULL, &img, &e) < 0 || copy(img, argv[2], &e) < 0;

    pl_close(img, failed ? NULL : &e);
    if (failed)
        fprintf(stderr, "%s\n", e.msg[0] ? e.msg : "usage: convert IMAGE OUT");
    return failed;
}
