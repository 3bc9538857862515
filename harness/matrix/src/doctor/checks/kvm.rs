//! Checks of KVM: the module, the device, nesting, huge pages, and a trial guest. The commands that fix something are those
//! of the documents' procedures, which differ by the module's name only. They are printed, never run.

use nestmatrix_model::architecture::NestingSwitch;

use super::subject::{NATIVE, PROCEDURES, Place, Proof, Subject};
use crate::doctor::finding::{Check, Finding};
use crate::doctor::probe::{ModuleFile, Probe, is_on};

impl Subject<'_> {
    pub(super) fn module(&self) -> Finding {
        let (probe, module) = (self.probe, self.profile().kvm_module);
        if probe.facts.kvm_module {
            let how = if probe.unloadable { "loaded" } else { "built into the kernel" };
            return Finding::ok(Check::KvmModule, format!("{module}, {how}"));
        }
        let others: Vec<&str> = probe
            .kvm_modules
            .iter()
            .map(String::as_str)
            .filter(|name| !["kvm", module].contains(name))
            .collect();
        let mut what = format!("{module} is not loaded");
        if !others.is_empty() {
            what.push_str(&format!("; the loaded KVM module is {}", others.join(" and ")));
        }
        // The kernel's message may be about another module, if one is loaded.
        if let (Some(says), true) = (&probe.facts.kvm_says, others.is_empty()) {
            what.push_str(&format!("; the kernel says: {says}"));
        }
        let missing = Finding::missing(Check::KvmModule, NATIVE, what);
        match probe.module_file {
            ModuleFile::Loadable => {
                let flag = self.profile().virtualization_flag;
                let missing = match flag.filter(|flag| !probe.has_flag(flag)) {
                    Some(flag) => {
                        missing.advise(format!("load it once the processor has {flag}:"))
                    }
                    None => missing,
                };
                missing.fixed_by([self.root(&format!("modprobe {module}"))])
            }
            ModuleFile::BuiltIn => {
                missing.advise("it is built into the kernel and did not start; dmesg shows why")
            }
            ModuleFile::Missing => {
                missing.advise(format!("kernel {} does not include it: boot one that does", probe.facts.kernel))
            }
            ModuleFile::NoFolder => missing.advise(format!(
                "/lib/modules/{} does not exist: this is a container, or a kernel without modules; load the module \
                 on the machine itself",
                probe.facts.kernel
            )),
        }
    }

    pub(super) fn device(&self) -> Vec<Finding> {
        let probe = self.probe;
        if probe.kvm_opens.is_empty() {
            let missing = Finding::missing(Check::KvmDevice, NATIVE, "/dev/kvm does not exist");
            let finding = if probe.facts.kvm_module {
                missing.advise("KVM is loaded; in a container, pass the device in (--device /dev/kvm)")
            } else {
                missing.advise("the KVM module creates it")
            };
            return vec![finding];
        }
        let there = Finding::ok(Check::KvmDevice, "/dev/kvm exists");
        let permission = match probe.kvm_opens.as_str() {
            "ok" => Finding::ok(Check::KvmPermission, "/dev/kvm opens"),
            "Permission denied" => self.permission(),
            other => {
                Finding::missing(Check::KvmPermission, NATIVE, format!("failed to open /dev/kvm: {other}"))
                    .advise(if other == "Operation not permitted" {
                        "this container has no access to the device: start it with --device /dev/kvm"
                    } else {
                        "the device exists, but KVM is not loaded: load its module"
                    })
            }
        };
        vec![there, permission]
    }

    pub(super) fn permission(&self) -> Finding {
        let Probe { user, kvm_group: group, kvm_mode: mode, kvm_members, groups, .. } = self.probe;
        let what = format!("{} has no permission to open /dev/kvm (mode {mode}, group {group})", whom(user));
        let missing = Finding::missing(Check::KvmPermission, NATIVE, what);
        // `crw-rw----`
        let for_group = mode.get(4..6) == Some("rw");
        if !for_group || group == "root" {
            let advice =
                "give the device to the group kvm, as the udev rules do; this lasts until the next boot:";
            let chgrp = (group != "kvm").then(|| self.root("chgrp kvm /dev/kvm"));
            let chmod = self.root("chmod 660 /dev/kvm");
            let is_in = groups.iter().any(|group| group == "kvm");
            let join = (!is_in).then(|| self.root("usermod -aG kvm $USER"));
            return missing.advise(advice).fixed_by(chgrp.into_iter().chain([chmod]).chain(join));
        }
        if !groups.contains(group) && kvm_members.contains(user) && !user.is_empty() {
            return missing.advise(format!("{user} joined the group after this session began: log in again"));
        }
        missing
            .advise("join the group, then log in again:")
            .fixed_by([self.root(&format!("usermod -aG {group} $USER"))])
    }

    /// The commands that enable nesting until the next boot, from the documents' procedure.
    pub(super) fn reload(&self) -> Vec<String> {
        let module = self.profile().kvm_module;
        vec![self.root(&format!("modprobe -r {module}")), self.root(&format!("modprobe {module} nested=1"))]
    }

    /// The commands that enable nesting on every boot.
    pub(super) fn persist(&self) -> Vec<String> {
        let module = self.profile().kvm_module;
        if let Some((file, false)) = self.probe.configured_nested() {
            // modprobe treats `-` and `_` alike.
            let module = module.replace('_', "[-_]");
            return vec![self.root(&format!("sed -i '/{module}/s/nested=[0Nn]/nested=1/' {file}"))];
        }
        let line = format!("echo 'options {module} nested=1'");
        vec![if self.probe.uid == "0" {
            format!("{line} >>/etc/modprobe.d/kvm.conf")
        } else {
            format!("{line} | sudo tee -a /etc/modprobe.d/kvm.conf")
        }]
    }

    pub(super) fn nested(&self) -> Finding {
        let (probe, profile) = (self.probe, self.profile());
        let module = profile.kvm_module;
        if let NestingSwitch::KernelParameter { parameter, since, documents, claim } = profile.nesting_switch
        {
            let claim = format!("{PROCEDURES}/{claim}");
            return self.nested_by_kernel_parameter(parameter, since, documents).by([claim]);
        }
        let check = Check::NestedParameter;
        let path = format!("/sys/module/{module}/parameters/nested");
        let value = probe.facts.nested.as_deref().unwrap_or_default();
        match probe.nested() {
            Some(true) => Finding::ok(check, format!("{module} has nested={value}"))
                .by(self.claims(&["nested-parameter-on"])),
            Some(false) => {
                let what = format!("{path} is {value}: guests of {module} cannot be hypervisors");
                let missing = Finding::missing(check, NATIVE, what);
                if !probe.unloadable {
                    let advice = format!(
                        "{module} is built into the kernel: add {module}.nested=1 to the kernel command line and reboot"
                    );
                    return missing.advise(advice).by(self.claims(&["nested-parameter-off"]));
                }
                let huge = profile.huge_pages_exclude_nesting && is_on(&probe.hpage);
                let mut advice = match probe.module_users {
                    0 => "stop every VM, then reload the module:".to_owned(),
                    users => format!("stop every VM (the module has {users} users), then reload it:"),
                };
                if huge {
                    advice.insert_str(0, "remove hpage=1, which rules out nesting; ");
                }
                let mut claims = self.claims(&["nested-parameter-off"]);
                if let Some(procedure) = profile.procedure {
                    claims.extend(self.claims(&[procedure.unload_claim, "load-nested", "modprobe-d"]));
                    claims.extend(self.claim("stop-vms").filter(|_| procedure.stops_vms));
                }
                let persistent = matches!(probe.configured_nested(), Some((_, true)));
                let persist = if persistent { Vec::new() } else { self.persist() };
                missing.advise(advice).fixed_by(self.reload()).fixed_by(persist).by(claims)
            }
            None if probe.facts.kvm_module => {
                let what = format!("{path} does not exist: this {module} does not support nesting");
                Finding::missing(check, NATIVE, what).advise("boot a kernel whose KVM has the parameter")
            }
            None => Finding::not_applicable(check, format!("{path}: the module is not loaded")),
        }
    }

    fn nested_by_kernel_parameter(&self, parameter: &str, since: &str, documents: &str) -> Finding {
        let check = Check::NestedParameter;
        if parameter.split_once('=').is_some_and(|(_, value)| self.probe.command_line_mode == value) {
            return Finding::ok(check, format!("{parameter}; {documents}"));
        }
        Finding::missing(check, NATIVE, format!("the kernel was not booted with {parameter}"))
            .advise(format!("add it to the kernel command line and reboot (requires {since}; {documents})"))
    }

    pub(super) fn persistent(&self) -> Option<Finding> {
        let (probe, module) = (self.probe, self.profile().kvm_module);
        // If it is off, the finding of `nested` has the commands.
        if probe.nested() != Some(true) || self.profile().nesting_switch != NestingSwitch::ModuleParameter {
            return None;
        }
        let check = Check::NestedPersistent;
        let claims = self.claims(&["modprobe-d"]);
        // The kernel command line overrides modprobe's configuration.
        let configured = match probe.command_line_nested.as_str() {
            "" => probe.configured_nested(),
            value => Some(("the kernel command line", is_on(value))),
        };
        let in_level = matches!(self.place, Place::Level { .. });
        Some(match configured {
            Some((by, true)) => Finding::ok(check, format!("{by} sets nested=1 on every boot")).by(claims),
            Some((by, false)) if probe.command_line_nested.is_empty() => {
                let what = format!("{by} sets nested=0: nesting is off after the next boot");
                Finding::warning(check, what).fixed_by(self.persist()).by(claims)
            }
            Some((by, false)) => {
                Finding::warning(check, format!("{by} sets nested=0: nesting is off after the next boot"))
                    .advise(format!("remove {module}.nested=0 from it"))
                    .by(claims)
            }
            None if !probe.unloadable => Finding::ok(
                check,
                format!("the default of {module}, which is built into the kernel, is nested=1"),
            ),
            None if in_level => {
                Finding::not_applicable(check, "the kernel default; every cell boots the level anew")
            }
            None => Finding::warning(
                check,
                "nothing in modprobe.d sets nested=1: the next boot uses the kernel default",
            )
            .fixed_by(self.persist())
            .by(claims),
        })
    }

    pub(super) fn huge_pages(&self) -> Finding {
        let (probe, check) = (self.probe, Check::HugePages);
        if !self.profile().huge_pages_exclude_nesting {
            let what = format!(
                "{} huge pages of {} KiB, which no document requires",
                probe.huge_pages, probe.huge_page_kib
            );
            return Finding::not_applicable(check, what);
        }
        let claims = self.claims(&["huge-pages", "huge-pages-refusal"]);
        let finding = match (is_on(&probe.hpage), probe.nested()) {
            (true, Some(true)) => Finding::warning(
                check,
                "kvm has hpage=1 and nested=1, which exclude each other according to the documents",
            ),
            (true, _) => Finding::missing(check, NATIVE, "kvm has hpage=1, which rules out nested=1")
                .advise("reload kvm without it:")
                .fixed_by(self.reload()),
            (false, _) => Finding::ok(check, "kvm does not back guests with huge pages"),
        };
        finding.by(claims)
    }

    pub(super) fn kvm_proof(&self) -> Finding {
        let check = Check::KvmProof;
        match self.proof {
            Proof::Proven => Finding::ok(check, "a trial guest booted to its userspace"),
            Proof::Failed(why) => {
                let what = if self.probe.kvm_opens == "ok" {
                    format!("/dev/kvm opens, but the trial guest failed: {why}")
                } else {
                    format!("the trial guest failed under KVM: {why}")
                };
                let missing = Finding::missing(check, NATIVE, what);
                if self.probe.facts.kvm_module {
                    missing.advise("check dmesg for messages of KVM; `--metal emulated` works without KVM")
                } else {
                    missing.advise("no command fixes this; `--metal emulated` works without KVM")
                }
            }
            Proof::NotTried(why) => {
                Finding::missing(check, NATIVE, format!("the trial guest could not be started: {why}"))
            }
            Proof::NotAsked(why) => Finding::not_applicable(check, why),
        }
    }
}

fn whom(user: &str) -> &str {
    if user.is_empty() { "this user" } else { user }
}
