/* test_envelope.c - descriptors as VMware, VirtualBox, oVirt and others write them, and hostile
 * ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "formats/ovf/envelope.h"
#include "formats/ovf/units.h"
#include "tests/support/images.h"
#include "tests/unit/formats/ovf/packages.h"

static int parse(const char *text, struct ovf_envelope **envelope, struct pl_err *e)
{
    return ovf_envelope_parse(text, strlen(text), envelope, e);
}

static void refuses(enum pl_kind kind, const char *why, const char *text)
{
    struct ovf_envelope *envelope;

    FAILS(kind, why, parse(text, &envelope, &e));
}

/* An open .ovf without files beside it. */
static void *open_text(const char *text, struct pl_storage **file)
{
    void *package;

    *file = named("vm.ovf", text, strlen(text));
    OK(open_package(&pl_ovf, *file, NULL, &package, &e));
    return package;
}

#define ITEM(id, type, more)                                                                       \
    "<Item><rasd:InstanceID>" id "</rasd:InstanceID>" more "<rasd:ResourceType>" type              \
    "</rasd:ResourceType></Item>"

/* clang-format off */
static const char vmware[] = ENVELOPE_1
    "<References><File ovf:href=\"vm-disk1.vmdk\" ovf:id=\"file1\" ovf:size=\"68096\"/>"
    "<File ovf:href=\"vm-disk2.vmdk\" ovf:id=\"file2\" ovf:size=\"70000\"/>"
    "<File ovf:href=\"vm-3.iso\" ovf:id=\"file3\" ovf:size=\"99\"/></References>"
    "<DiskSection><Info>Virtual disk information</Info>"
    "<Disk ovf:capacity=\"16\" ovf:capacityAllocationUnits=\"byte * 2^30\" ovf:diskId=\"vmdisk1\""
    " ovf:fileRef=\"file1\" ovf:format=\"http://www.vmware.com/interfaces/specifications/vmdk.html"
    "#streamOptimized\" ovf:populatedSize=\"1234\"/>"
    "<Disk ovf:capacity=\"1048576\" ovf:diskId=\"vmdisk2\" ovf:fileRef=\"file2\""
    " ovf:format=\"http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized\"/>"
    "<Disk ovf:capacity=\"${swap.size}\" ovf:diskId=\"vmdisk3\"/>"
    "</DiskSection>"
    "<NetworkSection><Info>n</Info><Network ovf:name=\"VM Network\"><Description>d</Description>"
    "</Network><Network ovf:name=\"inside\"/></NetworkSection>"
    "<vmw:StorageGroupSection ovf:id=\"group1\" vmw:name=\"x\"><Info/></vmw:StorageGroupSection>"
    "<VirtualSystem ovf:id=\"web\"><Info>A VM</Info><Name>Web &amp; Mail</Name>"
    "<OperatingSystemSection ovf:id=\"94\" vmw:osType=\"ubuntu64Guest\"><Info/>"
    "<Description>Ubuntu Linux (64-bit)</Description></OperatingSystemSection>"
    "<ProductSection><Info/><Product>Mailer</Product><Vendor>Example</Vendor>"
    "<Version>7</Version></ProductSection>"
    "<VirtualHardwareSection ovf:transport=\"iso\"><Info/><System>"
    "<vssd:ElementName>Virtual Hardware Family</vssd:ElementName>"
    "<vssd:InstanceID>0</vssd:InstanceID>"
    "<vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType></System>"
    ITEM("1", "3", "<rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits>"
                   "<rasd:VirtualQuantity>2</rasd:VirtualQuantity>")
    ITEM("2", "4", "<rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>"
                   "<rasd:VirtualQuantity>4096</rasd:VirtualQuantity>")
    ITEM("3", "6", "<rasd:ResourceSubType>lsilogic</rasd:ResourceSubType>")
    ITEM("4", "6", "<rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType>")
    ITEM("5", "20", "<rasd:ResourceSubType>vmware.sata.ahci</rasd:ResourceSubType>")
    ITEM("6", "20", "<rasd:ResourceSubType>vmware.nvme.controller</rasd:ResourceSubType>")
    ITEM("7", "5", "<rasd:ElementName>IDE 0</rasd:ElementName>")
    ITEM("8", "17", "<rasd:AddressOnParent>3</rasd:AddressOnParent>"
                    "<rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource>"
                    "<rasd:Parent>4</rasd:Parent>")
    ITEM("9", "17", "<rasd:AddressOnParent>0</rasd:AddressOnParent>"
                    "<rasd:HostResource>ovf:/disk/vmdisk2</rasd:HostResource>"
                    "<rasd:Parent>6</rasd:Parent>")
    ITEM("10", "15", "<rasd:HostResource>ovf:/file/file3</rasd:HostResource>"
                     "<rasd:Parent>7</rasd:Parent>")
    ITEM("11", "10", "<rasd:Connection>VM Network</rasd:Connection>"
                     "<rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType>")
    "<vmw:Config ovf:required=\"false\" vmw:key=\"firmware\" vmw:value=\"efi\"/>"
    "</VirtualHardwareSection></VirtualSystem></Envelope>";
/* clang-format on */

static void vmware_s_descriptor_is_read(void **state)
{
    const struct pl_package_disk *disks;
    struct pl_storage *file;
    void *package = open_text(vmware, &file);
    char *facts = facts_of(&pl_ovf, package);

    (void)state;
    HAS(facts, ".ovf-version=1");
    HAS(facts, ".machines.0.name=Web & Mail");
    HAS(facts, ".machines.0.product=Mailer");
    HAS(facts, ".machines.0.vendor=Example");
    HAS(facts, ".machines.0.version=7");
    HAS(facts, ".machines.0.os=ubuntu64Guest");
    HAS(facts, ".machines.0.os-id=94");
    HAS(facts, ".machines.0.hardware=vmx-13");
    HAS(facts, ".machines.0.firmware=efi");
    HAS(facts, ".machines.0.cpus=2");
    HAS(facts, ".machines.0.memory=4294967296");
    HAS(facts, ".machines.0.controllers.3.kind=nvme");
    HAS(facts, ".machines.0.network-cards.0.model=VmxNet3");
    HAS(facts, ".machines.0.network-cards.0.network=VM Network");
    HAS(facts, ".networks.1=inside");
    HAS(facts, ".disks.0.capacity=17179869184");
    HAS(facts, ".disks.0.controller=scsi");
    HAS(facts, ".disks.0.controller-number=1");
    HAS(facts, ".disks.0.controller-model=VirtualSCSI");
    HAS(facts, ".disks.0.address=3");
    HAS(facts, ".disks.0.machine=Web & Mail");
    HAS(facts, ".disks.1.controller=nvme");
    HAS(facts, ".manifest=none");
    free(facts);
    assert_int_equal(pl_ovf.disks(package, &disks), 3);
    assert_string_equal(disks[0].id, "vmdisk1");
    assert_string_equal(disks[0].name, "vm-disk1.vmdk");
    assert_string_equal(disks[0].format, "vmdk");
    assert_int_equal(disks[0].file_size, 68096);
    assert_int_equal(disks[1].capacity, 1048576);
    assert_null(disks[2].name);
    assert_int_equal(disks[2].capacity, 0);
    assert_null(disks[2].system);
    pl_ovf.close(package);
    pl_storage_close(file, NULL);
}

static void an_empty_disk_has_no_storage(void **state)
{
    struct pl_storage *file, *st;
    void *package = open_text(vmware, &file);

    (void)state;
    FAILS(PL_E_UNSUPPORTED, "disk vmdisk3 is empty", pl_ovf.storage(package, 2, &st, &e));
    FAILS(PL_E_INVALID, "no disk 3, the package has 3", pl_ovf.storage(package, 3, &st, &e));
    FAILS(PL_E_NOT_FOUND, "vm-disk1.vmdk", pl_ovf.storage(package, 0, &st, &e));
    pl_ovf.close(package);
    pl_storage_close(file, NULL);
}

/* VirtualBox 7, OVF 2.0: another namespace, StorageItem, its own machine section. */
static const char virtualbox[] =
    "<?xml version=\"1.0\"?><Envelope ovf:version=\"2.0\" xml:lang=\"en-US\""
    " xmlns=\"http://schemas.dmtf.org/ovf/envelope/2\""
    " xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/2\""
    " xmlns:rasd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
    "CIM_ResourceAllocationSettingData\""
    " xmlns:vssd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData\""
    " xmlns:vbox=\"http://www.virtualbox.org/ovf/machine\""
    " xmlns:epasd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
    "CIM_EthernetPortAllocationSettingData.xsd\""
    " xmlns:sasd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
    "CIM_StorageAllocationSettingData.xsd\">"
    "<References><File ovf:id=\"file1\" ovf:href=\"box-disk001.vmdk\"/></References>"
    "<DiskSection><Info/><Disk ovf:capacity=\"8589934592\" ovf:diskId=\"vmdisk1\""
    " ovf:fileRef=\"file1\" ovf:format=\"http://www.vmware.com/interfaces/specifications/vmdk.html"
    "#streamOptimized\" vbox:uuid=\"5a1b\"/></DiskSection>"
    "<VirtualSystem ovf:id=\"box\"><Info/><OperatingSystemSection ovf:id=\"96\"><Info/>"
    "<Description>Debian_64</Description>"
    "<vbox:OSType ovf:required=\"false\">Debian_64</vbox:OSType></OperatingSystemSection>"
    "<VirtualHardwareSection><Info/><System>"
    "<vssd:VirtualSystemType>virtualbox-2.2</vssd:VirtualSystemType></System>"
    "<Item><rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits>"
    "<rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType>"
    "<rasd:VirtualQuantity>512</rasd:VirtualQuantity></Item>"
    "<Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>AHCI</rasd:ResourceSubType>"
    "<rasd:ResourceType>20</rasd:ResourceType></Item>"
    "<StorageItem><sasd:AddressOnParent>0</sasd:AddressOnParent>"
    "<sasd:HostResource>/disk/vmdisk1</sasd:HostResource><sasd:InstanceID>5</sasd:InstanceID>"
    "<sasd:Parent>3</sasd:Parent><sasd:ResourceType>17</sasd:ResourceType></StorageItem>"
    "<EthernetPortItem><epasd:Connection>NAT</epasd:Connection>"
    "<epasd:ResourceSubType>E1000</epasd:ResourceSubType>"
    "<epasd:ResourceType>10</epasd:ResourceType></EthernetPortItem>"
    "</VirtualHardwareSection>"
    "<vbox:Machine ovf:required=\"false\" name=\"box\"><ovf:Info>i</ovf:Info><Hardware>"
    "<CPU count=\"1\"/><Firmware type=\"EFI\"/></Hardware></vbox:Machine>"
    "</VirtualSystem></Envelope>";

static void virtualbox_s_descriptor_is_read(void **state)
{
    struct pl_storage *file;
    void *package = open_text(virtualbox, &file);
    char *facts = facts_of(&pl_ovf, package);

    (void)state;
    HAS(facts, ".ovf-version=2");
    HAS(facts, ".machines.0.name=box");
    HAS(facts, ".machines.0.os=Debian_64");
    HAS(facts, ".machines.0.firmware=efi");
    HAS(facts, ".machines.0.memory=536870912");
    HAS(facts, ".machines.0.network-cards.0.network=NAT");
    HAS(facts, ".disks.0.controller=sata");
    HAS(facts, ".disks.0.controller-model=AHCI");
    free(facts);
    pl_ovf.close(package);
    pl_storage_close(file, NULL);
}

/* Prefixes are the writer's choice; sections by xsi:type as in OVF 0.9. */
static const char old[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?><!-- by hand -->"
    "<o:Envelope xmlns:o=\"http://www.vmware.com/schema/ovf/1/envelope\""
    " xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\""
    " xmlns:q=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
    "CIM_ResourceAllocationSettingData\">"
    "<o:References><o:File o:href=\"a.vmdk\" o:id=\"a\"/></o:References>"
    "<o:Section xsi:type=\"o:DiskSection_Type\"><o:Info/><o:Disk o:capacity=\"1\""
    " o:capacityAllocationUnits=\"GigaBytes\" o:diskId=\"d\" o:fileRef=\"a\"/></o:Section>"
    "<o:Content o:id=\"vm\" xsi:type=\"o:VirtualSystem_Type\">"
    "<o:Section xsi:type=\"o:VirtualHardwareSection_Type\">"
    "<o:Item><q:InstanceId>3</q:InstanceId><q:ResourceType>6</q:ResourceType></o:Item>"
    "<o:Item><q:InstanceId>4</q:InstanceId><q:ResourceType>17</q:ResourceType>"
    "<q:HostResource>disk/d</q:HostResource><q:Parent>3</q:Parent></o:Item>"
    "</o:Section></o:Content></o:Envelope>";

static void old_descriptors_are_read(void **state)
{
    struct pl_storage *file;
    void *package = open_text(old, &file);
    char *facts = facts_of(&pl_ovf, package);

    (void)state;
    HAS(facts, ".ovf-version=0.9");
    HAS(facts, ".disks.0.capacity=1073741824");
    HAS(facts, ".disks.0.controller=scsi");
    HAS(facts, ".disks.0.machine=vm");
    free(facts);
    pl_ovf.close(package);
    pl_storage_close(file, NULL);
}

/* oVirt and virt-v2v: only the root and attributes have prefixes, an empty parentRef. */
static const char ovirt[] =
    "<ovf:Envelope xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1/\""
    " xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\""
    " xmlns:rasd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
    "CIM_ResourceAllocationSettingData\" ovf:version=\"4.4.0.0\">"
    "<References><File ovf:href=\"5b3c\" ovf:id=\"5b3c\" ovf:size=\"700\"/></References>"
    "<Section xsi:type=\"ovf:DiskSection_Type\"><Info/><Disk ovf:diskId=\"77\" ovf:size=\"10\""
    " ovf:capacity=\"10\" ovf:capacityAllocationUnits=\"byte * 2^30\" ovf:parentRef=\"\""
    " ovf:fileRef=\"5b3c\" ovf:format=\"http://www.gnome.org/~markmc/qcow-image-format.html\"/>"
    "</Section><Content ovf:id=\"out\" xsi:type=\"ovf:VirtualSystem_Type\"><Name>guest</Name>"
    "<Section ovf:id=\"9\" xsi:type=\"ovf:OperatingSystemSection_Type\">"
    "<Description>rhel_8x64</Description></Section>"
    "<Section xsi:type=\"ovf:VirtualHardwareSection_Type\"><Item>"
    "<rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>2048</rasd:VirtualQuantity>"
    "<rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits></Item></Section></Content>"
    "</ovf:Envelope>";

static void ovirt_s_descriptor_is_read(void **state)
{
    struct pl_storage *file;
    void *package = open_text(ovirt, &file);
    char *facts = facts_of(&pl_ovf, package);

    (void)state;
    HAS(facts, ".machines.0.name=guest");
    HAS(facts, ".machines.0.os=rhel_8x64");
    HAS(facts, ".machines.0.memory=2147483648");
    HAS(facts, ".disks.0.capacity=10737418240");
    HAS(facts, ".disks.0.format=qcow2");
    assert_null(strstr(facts, ".disks.0.parent"));
    free(facts);
    pl_ovf.close(package);
    pl_storage_close(file, NULL);
}

static void machines_of_collections_and_the_default_configuration_count(void **state)
{
    /* clang-format off */
    static const char text[] = ENVELOPE_1
        "<References><File ovf:id=\"f\" ovf:href=\"x.img\"/></References>"
        "<DeploymentOptionSection><Info/><Configuration ovf:id=\"small\"/>"
        "<Configuration ovf:id=\"large\" ovf:default=\"true\"/></DeploymentOptionSection>"
        "<VirtualSystemCollection ovf:id=\"all\"><Info/>"
        "<VirtualSystem ovf:id=\"one\"><VirtualHardwareSection>"
        "<Item ovf:configuration=\"small tiny\"><rasd:ResourceType>3</rasd:ResourceType>"
        "<rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>"
        "<Item ovf:configuration=\"medium large\"><rasd:ResourceType>3</rasd:ResourceType>"
        "<rasd:VirtualQuantity>8</rasd:VirtualQuantity></Item>"
        "<Item ovf:bound=\"max\"><rasd:ResourceType>3</rasd:ResourceType>"
        "<rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>"
        "</VirtualHardwareSection></VirtualSystem>"
        "<VirtualSystemCollection ovf:id=\"inner\"><VirtualSystem ovf:id=\"two\">"
        "<VirtualHardwareSection>"
        ITEM("4", "17", "<rasd:HostResource>ovf:/file/f</rasd:HostResource>")
        "</VirtualHardwareSection></VirtualSystem></VirtualSystemCollection>"
        "</VirtualSystemCollection></Envelope>";
    /* clang-format on */
    const struct pl_package_disk *disks;
    struct pl_storage *file;
    void *package = open_text(text, &file);
    char *facts = facts_of(&pl_ovf, package);

    (void)state;
    HAS(facts, ".machines.0.cpus=8");
    HAS(facts, ".machines.1.name=two");
    free(facts);
    assert_int_equal(pl_ovf.disks(package, &disks), 1);
    assert_string_equal(disks[0].id, "f");
    assert_string_equal(disks[0].name, "x.img");
    assert_string_equal(disks[0].system, "two");
    pl_ovf.close(package);
    pl_storage_close(file, NULL);
}

static void a_machine_may_have_no_hardware(void **state)
{
    struct pl_storage *file;
    void *package = open_text(ENVELOPE_1 "<VirtualSystem ovf:id=\"v\"/></Envelope>", &file);
    const struct pl_package_disk *disks;
    char *facts = facts_of(&pl_ovf, package);

    (void)state;
    HAS(facts, ".machines.0.name=v");
    assert_int_equal(pl_ovf.disks(package, &disks), 0);
    free(facts);
    pl_ovf.close(package);
    pl_storage_close(file, NULL);
}

static void units_are_products(void **state)
{
    static const struct {
        const char *units;
        uint64_t bytes;
    } good[] = {
        { NULL, 1 },
        { "byte", 1 },
        { "Bytes", 1 },
        { "byte * 2^20", 1 << 20 },
        { "byte*2^30", 1 << 30 },
        { "byte * 1024", 1024 },
        { "byte * 10^3 * 2", 2000 },
        { "MegaBytes", 1 << 20 },
        { "byte * 2^62", UINT64_C(1) << 62 },
    };
    static const char *const bad[] = { "bit",         "byte 2",   "byte * ", "byte * 2^",
                                       "byte * 2^64", "byte * 0", "2^20",    "byte * 2^20 x",
                                       "byte * 2^-1", "byte / 2", "",        "byte * 2^63" };
    uint64_t bytes;

    (void)state;
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
        OK(ovf_unit_bytes(good[i].units, &bytes, &e));
        assert_int_equal(bytes, good[i].bytes);
    }
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        FAILS(PL_E_CORRUPT, "is no unit", ovf_unit_bytes(bad[i], &bytes, &e));
    FAILS(PL_E_LIMIT, "too much", ovf_size("8", "byte * 2^60", &bytes, &e));
    FAILS(PL_E_LIMIT, "too much", ovf_size("9223372036854775808", NULL, &bytes, &e));
    FAILS(PL_E_CORRUPT, "no number", ovf_size("1e6", NULL, &bytes, &e));
    FAILS(PL_E_CORRUPT, "no number", ovf_size("-1", NULL, &bytes, &e));
}

/* ---- hostile ones ---- */

static void entities_are_never_expanded(void **state)
{
    (void)state;
    refuses(PL_E_CORRUPT, "document type",
            "<?xml version=\"1.0\"?><!DOCTYPE lolz [<!ENTITY a \"lol\">"
            "<!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;&b;&b;\">]>"
            "<Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\" id=\"&c;\">&c;</Envelope>");
    refuses(PL_E_CORRUPT, "document type",
            "<!DOCTYPE x [<!ENTITY f SYSTEM \"file:///etc/passwd\">]>"
            "<Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\">&f;</Envelope>");
    refuses(PL_E_CORRUPT, "document type",
            "<!DOCTYPE Envelope SYSTEM \"http://127.0.0.1/x.dtd\">"
            "<Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\"/>");
    refuses(PL_E_CORRUPT, "well-formed",
            "<Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\">&f;</Envelope>");
}

/* `head`, then `count` times `piece`, then `tail`. */
static char *repeated(const char *head, const char *piece, size_t count, const char *tail)
{
    const size_t len = strlen(piece);
    char *text = malloc(strlen(head) + len * count + strlen(tail) + 1), *at = text;

    assert_non_null(text);
    at = stpcpy(at, head);
    for (size_t i = 0; i < count; i++)
        at = mempcpy(at, piece, len);
    strcpy(at, tail);
    return text;
}

static void size_depth_and_number_are_bounded(void **state)
{
    char *text = repeated(ENVELOPE_1, "<a>", 100, "");

    (void)state;
    refuses(PL_E_CORRUPT, "well-formed", text);
    free(text);
    text = repeated(ENVELOPE_1, "<a>", 100000, "");
    refuses(PL_E_CORRUPT, "Excessive depth", text);
    free(text);
    text = repeated(ENVELOPE_1, "<a/>", 140000, "</Envelope>");
    refuses(PL_E_LIMIT, "characters '<', more than the limit of 131072", text);
    free(text);
    text = repeated("<Envelope", " a=''", 70000, "/>");
    refuses(PL_E_LIMIT, "characters '=', more than the limit of 65536", text);
    free(text);
    text = repeated(ENVELOPE_1, " ", (4u << 20) + 1, "</Envelope>");
    refuses(PL_E_LIMIT, "more than the limit of 4194304", text);
    free(text);
}

static void a_huge_attribute_is_only_text(void **state)
{
    char *text = repeated(ENVELOPE_1 "<References><File ovf:id=\"f\" ovf:href=\"", "x", 3u << 20,
                          "\"/></References></Envelope>");
    struct ovf_envelope *envelope;

    (void)state;
    if (parse(text, &envelope, NULL) == 0) {
        assert_int_equal(strlen(envelope->files[0].href), 3u << 20);
        ovf_envelope_free(envelope);
    }
    free(text);
}

static void the_encoding_is_seen_not_believed(void **state)
{
    static const char text[] =
        "<?xml version=\"1.0\" encoding=\"UTF-7\"?>"
        "<Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\"><NetworkSection>"
        "<Network name=\"+ADw-%s\"/></NetworkSection></Envelope>";
    static const char *const names[][2] = { { "\xc3\xa4", "+ADw-\xc3\xa4" },
                                            { "\xe4", "+ADw-\xc3\xa4" } };
    struct ovf_envelope *envelope;
    char *whole;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        assert_true(asprintf(&whole, text, names[i][0]) > 0);
        OK(parse(whole, &envelope, &e));
        assert_string_equal(envelope->networks[0], names[i][1]);
        ovf_envelope_free(envelope);
        free(whole);
    }
    FAILS(PL_E_CORRUPT, "zero byte", ovf_envelope_parse("\xff\xfe<\0a\0", 6, &envelope, &e));
}

static void lists_are_bounded(void **state)
{
    char *text = repeated(ENVELOPE_1 "<NetworkSection>", "<Network ovf:name=\"n\"/>", 2000,
                          "</NetworkSection></Envelope>");

    (void)state;
    refuses(PL_E_LIMIT, "more than 1024 networks", text);
    free(text);
    text = repeated(ENVELOPE_1, "<VirtualSystem/>", 300, "</Envelope>");
    refuses(PL_E_LIMIT, "more than 256 virtual systems", text);
    free(text);
    text = repeated(ENVELOPE_1 "<VirtualSystem><VirtualHardwareSection>", "<Item/>", 9000,
                    "</VirtualHardwareSection></VirtualSystem></Envelope>");
    refuses(PL_E_LIMIT, "more than 8192 items", text);
    free(text);
}

static void other_xml_is_no_descriptor(void **state)
{
    (void)state;
    refuses(PL_E_FORMAT, "root is no Envelope", "<Envelope/>");
    refuses(PL_E_FORMAT, "root is no Envelope",
            "<Envelope xmlns=\"http://schemas.xmlsoap.org/soap/envelope/\"/>");
    refuses(PL_E_FORMAT, "root is no Envelope",
            "<x xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\"/>");
    refuses(PL_E_CORRUPT, "well-formed", "");
    refuses(PL_E_CORRUPT, "well-formed", "text");
    refuses(PL_E_CORRUPT, "line 2", ENVELOPE_1 "</Wrong>");
    refuses(PL_E_CORRUPT, "well-formed", ENVELOPE_1);
}

static void contradictions_are_refused(void **state)
{
    (void)state;
    refuses(PL_E_CORRUPT, "two files have the id f",
            ENVELOPE_1 "<References><File ovf:id=\"f\" ovf:href=\"a\"/>"
                       "<File ovf:id=\"f\" ovf:href=\"b\"/></References></Envelope>");
    refuses(PL_E_CORRUPT, "no href",
            ENVELOPE_1 "<References><File ovf:id=\"f\"/></References></Envelope>");
    refuses(PL_E_CORRUPT, "two disks have the id d",
            ENVELOPE_1 "<DiskSection><Disk ovf:diskId=\"d\"/><Disk ovf:diskId=\"d\"/></DiskSection>"
                       "</Envelope>");
    refuses(PL_E_CORRUPT, "in the file g, which does not exist",
            ENVELOPE_1 "<DiskSection><Disk ovf:diskId=\"d\" ovf:fileRef=\"g\"/></DiskSection>"
                       "</Envelope>");
    refuses(PL_E_LIMIT, "disk d",
            ENVELOPE_1 "<DiskSection><Disk ovf:diskId=\"d\" ovf:capacity=\"99999999999\""
                       " ovf:capacityAllocationUnits=\"byte * 2^40\"/></DiskSection></Envelope>");
    refuses(PL_E_CORRUPT, "file f: size: \"x\" is no number",
            ENVELOPE_1 "<References><File ovf:id=\"f\" ovf:href=\"a\" ovf:size=\"x\"/></References>"
                       "</Envelope>");
}

static void what_is_an_ovf_shows_at_its_start(void **state)
{
    static const char *const yes[] = {
        "<Envelope xmlns=\"x\">",
        "\xef\xbb\xbf<?xml version=\"1.0\"?>\r\n<!-- a > b -->\n<ovf:Envelope ",
        "  <!DOCTYPE x>\n<a:Envelope>",
    };
    static const char *const no[] = { "",          "<",           "Envelope",
                                      "<Envelop>", "<Envelopes>", "<!-- <Envelope>",
                                      "<html>",    "<Envelope",   "<?xml" };

    (void)state;
    for (unsigned i = 0; i < sizeof yes / sizeof *yes; i++)
        assert_true(pl_ovf.probe((const uint8_t *)yes[i], strlen(yes[i])));
    for (unsigned i = 0; i < sizeof no / sizeof *no; i++)
        assert_false(pl_ovf.probe((const uint8_t *)no[i], strlen(no[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vmware_s_descriptor_is_read),
        cmocka_unit_test(an_empty_disk_has_no_storage),
        cmocka_unit_test(virtualbox_s_descriptor_is_read),
        cmocka_unit_test(old_descriptors_are_read),
        cmocka_unit_test(ovirt_s_descriptor_is_read),
        cmocka_unit_test(machines_of_collections_and_the_default_configuration_count),
        cmocka_unit_test(a_machine_may_have_no_hardware),
        cmocka_unit_test(units_are_products),
        cmocka_unit_test(entities_are_never_expanded),
        cmocka_unit_test(size_depth_and_number_are_bounded),
        cmocka_unit_test(a_huge_attribute_is_only_text),
        cmocka_unit_test(the_encoding_is_seen_not_believed),
        cmocka_unit_test(lists_are_bounded),
        cmocka_unit_test(other_xml_is_no_descriptor),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(what_is_an_ovf_shows_at_its_start),
    };

    return cmocka_run_group_tests_name("OVF descriptors", tests, NULL, NULL);
}
