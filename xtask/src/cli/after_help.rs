//! The end of the help: exit codes and environment variables.

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0    all verdicts are as expected or known
  1    a cell failed or a documented limitation is gone (xpass), and that was not known; or
       a limitation that was known to be gone is back;
       diff, --baseline: something got worse; doctor: this machine is not usable;
       bisect: no change was found
  2    bad usage or bad input
  3    the harness or its machine failed; the result is incomplete
  4    nothing ran: no cell matched, or all were skipped; a shard in which nothing ran exits with 0
  5    run-matrix --disposable-host: a cell reboots this machine now; resume the run afterwards
  125  run-matrix --kernel, instead of 3 and 4: the kernel could not be tested, so `git bisect run`
       skips it; 128, instead of 2, stops `git bisect run`
  130  interrupted (Ctrl-C); 129 and 143 for SIGHUP and SIGTERM

Environment:
  NESTMATRIX_CACHE      folder of images and packages [default: nestmatrix in the XDG cache folder]
  NESTMATRIX_CONFIG     folder of settings, such as sources [default: nestmatrix in the XDG config folder]
  NESTMATRIX_SNAPSHOTS  folder of snapshots [default: states in the folder of images]
  NESTMATRIX_ARCHIVE    address of the Debian archive [default: from this machine's apt sources]
  NESTMATRIX_KEYRING    keyring that verifies the archive [default: this machine's Debian keyring]
  NESTMATRIX_BOCHS      your own build of Bochs, for Intel stacks [default: Debian's]
  NESTMATRIX_SANDBOX    `off` runs emulators of bare machines without a sandbox [default: on]
  NESTMATRIX_LOG        what to log to standard error, such as `debug` [default: warn]
  NO_COLOR              disables colours";
