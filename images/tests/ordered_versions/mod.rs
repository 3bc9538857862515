//! Versions of Debian packages. Apart from the tests, since two compare them: one by this order and one with dpkg.

/// Each lower than the next.
pub const ORDER: [&str; 16] = [
    "5.10.223-1",
    "5.10.223-1+b1",
    "6.1.176-1~deb11u1",
    "6.1.176-1",
    "6.1.192-2",
    "6.12.9-1",
    "6.12.90-1~bpo12+1",
    "6.12.90-1",
    "6.12.90-1.1",
    "6.12.107-1",
    "6.16~rc7-1~exp1",
    "6.16.3-1~bpo13+1",
    "7.2.13-1",
    "1:5.2+dfsg-11+deb11u3",
    "1:10.0.2+ds-2",
    "1:11.1.0~rc2+ds-1",
];
