//! Asks which architectures this machine itself can be the metal of, before cells are planned.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use nestmatrix::run::{MachineTrial, MetalChoice, NativeMetals};
use nestmatrix_images::{Catalog, Store};
use nestmatrix_model::Architecture;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_stack::host::Emulator;

use crate::exit::Failure;
use crate::progress::BuildProgress;
use crate::settings::installed_qemu;
use crate::signals::Signals;
use crate::{host, parent_death};

/// What a trial of this machine needs.
pub struct NativeTrial<'a> {
    pub choice: MetalChoice,
    /// Whether cells may change this machine.
    pub disposable_host: bool,
    /// The folder of the run that is resumed, if one is.
    pub resumed: Option<&'a Path>,
    pub catalog: &'a Catalog,
    pub store: &'a Arc<Store>,
    pub builds: &'a Arc<BuildProgress>,
    pub timeout_scale: f64,
    pub signals: &'a Signals,
}

impl NativeTrial<'_> {
    /// What native metal this machine offers for each of these architectures, unless the user chose emulated metal; and the QEMU that
    /// is installed here. An interrupted trial says nothing, so the caller must look for a signal.
    pub async fn run(
        &self,
        architectures: BTreeSet<Architecture>,
    ) -> Result<(NativeMetals, Option<Emulator>), Failure> {
        let rebooted = host::reserve(self.choice, self.disposable_host, self.resumed)?;
        let native_qemu = architectures.iter().find_map(|architecture| installed_qemu(*architecture));
        let tried = architectures.into_iter().filter(|_| self.choice != MetalChoice::Emulated);
        let mut natives = NativeMetals::new();
        for architecture in tried {
            let trial = MachineTrial {
                catalog: self.catalog,
                store: Arc::clone(self.store),
                progress: Arc::clone(self.builds) as _,
                installed: native_qemu.clone(),
                wrapper: parent_death::wrapper().map_err(Failure::error)?,
                timeout_scale: self.timeout_scale,
                insist: self.choice == MetalChoice::Native,
            };
            let native = tokio::select! {
                native = trial.run(architecture) => native,
                () = async { self.signals.cancellation.clone().requested().await } => Err("interrupted".to_owned()),
            };
            // The cell that rebooted the machine has changed it. The others find it restored.
            let module = ArchInfo::of(architecture).kvm_module;
            let native = match &rebooted {
                Some(journal) => {
                    native.map(|native| native.with_nested(journal.nested_before(module), module))
                }
                None => native,
            };
            natives.insert(architecture, native);
        }
        Ok((natives, native_qemu))
    }
}
