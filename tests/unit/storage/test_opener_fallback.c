/* The opener where the kernel has no openat2: a filter makes the call fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/checked.h"
#include "core/storage/opener.h"
#include "tests/unit/storage/storages.h"

static bool forbid_openat2(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = { PL_COUNT(code), code };

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void plain_names_without_links_still_open(void **state)
{
    static const struct pl_opener opener;
    struct pl_storage *image = new_file("image"), *st;
    char *sub = test_tmp("sub"), *link = test_tmp("link");

    (void)state;
    pl_storage_close(new_file("base"), NULL);
    assert_int_equal(mkdir(sub, 0755), 0);
    pl_storage_close(new_file("sub/base"), NULL);
    assert_int_equal(symlink("/etc/passwd", link), 0);
    if (!forbid_openat2())
        TEST_SKIP("filters for system calls are not to be had");

    OK(pl_open_named(&opener, image, "base", PL_READ, &st, &e));
    pl_storage_close(st, NULL);
    OK(pl_open_named(&opener, image, "sub/../base", PL_READ, &st, &e));
    pl_storage_close(st, NULL);
    FAILS(PL_E_POLICY, "sub/base", pl_open_named(&opener, image, "sub/base", PL_READ, &st, &e));
    FAILS(PL_E_POLICY, "link", pl_open_named(&opener, image, "link", PL_READ, &st, &e));
    FAILS(PL_E_POLICY, "outside", pl_open_named(&opener, image, "../x", PL_READ, &st, &e));
    pl_storage_close(image, NULL);
    free(sub);
    free(link);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(plain_names_without_links_still_open) };

    return cmocka_run_group_tests_name("opening on old kernels", tests, NULL, NULL);
}
