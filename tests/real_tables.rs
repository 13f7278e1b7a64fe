//! Every table of real kernels (`PVOPS_KERNELS`).

use std::path::PathBuf;

use pvops::image::Image;
use pvops::sites::Tables;

#[test]
fn every_table_of_every_kernel_is_valid_and_has_the_rows_counted_before() {
    let Some(root) = std::env::var_os("PVOPS_KERNELS") else {
        assert!(std::env::var_os("PVOPS_REQUIRE_KERNELS").is_none(), "PVOPS_KERNELS is not set");
        eprintln!("skipped: PVOPS_KERNELS is not set");
        return;
    };
    // Release, layout, alternatives, retpolines, returns, calls, endbr, locks, mcount, jump labels, static calls,
    // trampolines, constants.
    let counted: [(&str, &str, [usize; 11]); 6] = [
        ("5.10.0-30-686-pae", "12-byte rows", [899, 0, 0, 0, 0, 7500, 33944, 3742, 0, 604, 0]),
        ("5.10.0-46-amd64", "12-byte rows", [1052, 8544, 47710, 0, 0, 7814, 36791, 3827, 1132, 617, 0]),
        ("6.1.0-50-686-pae", "12-byte rows", [1040, 0, 0, 0, 0, 8128, 37115, 5071, 0, 667, 0]),
        ("6.1.0-56-amd64", "12-byte rows", [4667, 8823, 50858, 0, 0, 8638, 40521, 6299, 4085, 686, 0]),
        (
            "6.12.117+deb12-amd64",
            "14-byte rows, flags",
            [9460, 8785, 60788, 237_717, 12281, 9605, 45261, 9267, 7701, 3764, 3],
        ),
        (
            "7.2.13+deb14-amd64",
            "14-byte rows, flags",
            [10139, 10388, 68892, 288_526, 13712, 11487, 49411, 10197, 10228, 3940, 7],
        ),
    ];
    for (release, layout, expected) in counted {
        let path = PathBuf::from(&root).join(format!("kernels/vmlinuz-{release}"));
        let image = Image::open(&path).expect("a real kernel opens");
        let tables = Tables::read(&image).expect("real tables are valid");
        let alternatives = tables.alternatives.as_ref().expect("there are alternatives");
        let found = [
            alternatives.rows.len(),
            tables.retpolines.len(),
            tables.returns.len(),
            tables.call_sites.len(),
            tables.ibt.len(),
            tables.smp_locks.len(),
            tables.mcount.len(),
            tables.jump_labels.len(),
            tables.static_calls.len(),
            tables.trampolines.len(),
            tables.constants.len(),
        ];
        assert_eq!(alternatives.layout.name, layout, "{release}");
        assert_eq!(found, expected, "{release}");
    }
}
