#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/digest.h"

static void known_content_gives_known_digests_however_it_is_cut(void **state)
{
    static const struct {
        const char *name, *text;
    } row[] = {
        { "md5", "df5a02822e7421596529b56c3bc2c328" },
        { "sha1", "d8899626896c0347deb241c6eb82414dc093b7b9" },
        { "sha224", "f315fef242dd7581ba328f75439ed9cf1066af133f6eeb1c2137a503" },
        { "sha256", "a70915c3b76713abebfd8ba8eaf1b298e46ba7e42dae45c26d806e2dcdd13b2d" },
        { "sha384", "3836184e5b61dd58c474c857d91596df3826f64e440e8809941150e8dfc61458"
                    "b11db8837f60313533e35df92b7bcd27" },
        { "sha512", "691fe52bcc6a9fc18b92ecafcb69e053f5ec550284a61e92413374781285c4ff"
                    "04aaa82e88e2b2d8ff120d9b46a131307b8844c89dfa1905ac331a13fe1ae745" },
        { "blake2s256", "3b62d60a130e786851461245df62281364b6fe163e055a5fb9b5af9045704249" },
        { "blake2b512", "e899c3a0fd2ac6df5323f1cc0264451925f2663928e9712d0c1f20accb659b9f"
                        "5c9839a130207968d0339322f062a4ef5355c5647adaeed4cf6160cba62912b4" },
    };
    const char *content = "platter";
    char text[PL_DIGEST_TEXT];
    struct pl_digest *d;
    struct pl_err e;

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        for (size_t cut = 0; cut <= 7; cut++) {
            assert_int_equal(pl_digest_new(row[i].name, &d, &e), 0);
            assert_int_equal(pl_digest_update(d, content, cut, &e), 0);
            assert_int_equal(pl_digest_update(d, content + cut, 7 - cut, &e), 0);
            assert_int_equal(pl_digest_finish(d, text, &e), 0);
            pl_digest_free(d);
            assert_string_equal(text, row[i].text);
        }
}

static void nothing_has_a_digest_too(void **state)
{
    char text[PL_DIGEST_TEXT];
    struct pl_digest *d;
    struct pl_err e;

    (void)state;
    assert_int_equal(pl_digest_new("sha1", &d, &e), 0);
    assert_int_equal(pl_digest_finish(d, text, &e), 0);
    assert_string_equal(text, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    pl_digest_free(d);
    pl_digest_free(NULL);
}

static void an_unknown_name_is_told_what_is_known(void **state)
{
    static const char *const bad[] = {
        "", "sha", "sha2560", "SHA256", "sha256, sha512", "shake128"
    };
    struct pl_digest *d = NULL;
    struct pl_err e = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(pl_digest_new(bad[i], &d, &e), -1);
        assert_int_equal(e.kind, PL_E_INVALID);
        assert_string_equal(e.hint, "known are md5, sha1, sha224, sha256, sha384, sha512, "
                                    "blake2s256, blake2b512");
    }
    assert_null(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_content_gives_known_digests_however_it_is_cut),
        cmocka_unit_test(nothing_has_a_digest_too),
        cmocka_unit_test(an_unknown_name_is_told_what_is_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
