# Functions of every command of the roles. They work in Windows PowerShell 5.1, which Windows has since 10 and Server 2016.

# Its id, version and kernel as nestmatrix names them. An unknown build is named by its number.
function Get-NestSystem {
    $nt = Get-ItemProperty 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion'
    $build = [int] $nt.CurrentBuild
    if ($nt.InstallationType -eq 'Client') {
        # ProductName says "Windows 10" in Windows 11 too.
        $id = 'windows'
        $version = if ($build -ge 22000) { '11' } else { '10' }
    } else {
        $id = 'windows-server'
        $version = switch ($build) {
            14393 { '2016' }
            17763 { '2019' }
            20348 { '2022' }
            26100 { '2025' }
            default { "build-$build" }
        }
    }
    $kernel = '{0}.{1}.{2}.{3}' -f $nt.CurrentMajorVersionNumber, $nt.CurrentMinorVersionNumber, $build, $nt.UBR
    [pscustomobject] @{ Id = $id; Version = $version; Kernel = $kernel; Edition = $nt.EditionID }
}

# What Windows knows about its hypervisor. The kernel keeps CPUID leaves 0x40000000 to 0x40000006 of a hypervisor with Hyper-V's interface
# (class 159, SystemHypervisorDetailInformation): EAX, EBX, ECX and EDX of each. KVM's own leaf at 0x40000100 is not among them.
function Get-NestHypervisor {
    $computer = Get-CimInstance Win32_ComputerSystem
    $found = [pscustomobject] @{
        Present = [bool] $computer.HypervisorPresent
        Interface = 'none'; Vendor = 'none'; IsRoot = $false; IsNested = $false; Name = 'none'
        Machine = ('{0} {1}' -f $computer.Manufacturer, $computer.Model).Trim()
    }
    Add-Type -Namespace Nest -Name Kernel -MemberDefinition @'
[DllImport("ntdll.dll")]
public static extern int NtQuerySystemInformation(int kind, byte[] buffer, int size, out int length);
'@
    # The order of the leaves in it: the features of the hardware come before the recommendations.
    $order = 0, 1, 2, 3, 6, 4, 5
    $leaves = New-Object byte[] (16 * $order.Count)
    $length = 0
    if ([Nest.Kernel]::NtQuerySystemInformation(159, $leaves, $leaves.Length, [ref] $length) -eq 0) {
        $at = { param($leaf, $register) 16 * [Array]::IndexOf($order, $leaf) + 4 * $register }
        $text = { param($from, $count) [Text.Encoding]::ASCII.GetString($leaves, $from, $count).Trim([char] 0) }
        $vendor = & $text (& $at 0 1) 12
        $interface = & $text (& $at 1 0) 4
        if ($interface) { $found.Interface = $interface; $found.Vendor = $vendor }
        # Only the partition with the privilege CreatePartitions (leaf 3, EBX, bit 0) runs on a Hyper-V of its own.
        $found.IsRoot = [bool] ([BitConverter]::ToUInt32($leaves, (& $at 3 1)) -band 1)
        # Leaf 4, EAX, bit 12: this Hyper-V runs in a virtual machine of another hypervisor with that interface, and knows it.
        $found.IsNested = [bool] ([BitConverter]::ToUInt32($leaves, (& $at 4 0)) -band 0x1000)
    }
    $found.Name = if (-not $found.Present) {
        'none'
    } elseif ($found.IsRoot) {
        'Microsoft Hyper-V'
    } elseif ($found.Interface -eq 'Hv#1' -and $computer.Manufacturer -in 'QEMU', 'Red Hat') {
        # An inference: of all accelerators of QEMU, KVM alone has Hyper-V's interface. RHEL's QEMU calls its machines those of Red Hat.
        'KVM'
    } elseif ($found.Interface -eq 'Hv#1' -and $computer.Manufacturer -eq 'Microsoft Corporation') {
        'Microsoft Hyper-V'
    } else {
        # It does not say: missing evidence, and no contradiction.
        ''
    }
    $found
}

# Prints what every Windows level says about itself.
function Write-NestFacts {
    $system = Get-NestSystem
    $hypervisor = Get-NestHypervisor
    $os = Get-CimInstance Win32_OperatingSystem
    "kernel=$($system.Kernel)"
    "system=$($system.Id)"
    "version=$($system.Version)"
    "edition=$($system.Edition)"
    "cpus=0-$([Environment]::ProcessorCount - 1)"
    "uptime=$([int] ($os.LocalDateTime - $os.LastBootUpTime).TotalSeconds)"
    "machine=$($hypervisor.Machine)"
    "hypervisor-present=$($hypervisor.Present)"
    "hypervisor-interface=$($hypervisor.Interface) $($hypervisor.Vendor)"
    "root-partition=$($hypervisor.IsRoot)"
    "nested-hypervisor=$($hypervisor.IsNested)"
    "hypervisor=$($hypervisor.Name)"
}

# The drive with this label, with a letter. Windows may have left its disk offline, or without a letter.
function Get-NestDrive([string] $Label, [int] $Seconds = 60) {
    $end = (Get-Date).AddSeconds($Seconds)
    while ($true) {
        Get-Disk | Where-Object IsOffline | Set-Disk -IsOffline $false
        $volume = Get-Volume | Where-Object FileSystemLabel -eq $Label | Select-Object -First 1
        if ($volume -and $volume.DriveLetter) { return "$($volume.DriveLetter):\" }
        if ($volume) { Get-Partition -Volume $volume | Add-PartitionAccessPath -AssignDriveLetter }
        if ((Get-Date) -gt $end) { throw "there is no volume $Label" }
        Start-Sleep -Seconds 1
    }
}

# Starts a command that outlives the one of the agent: the agent waits for all processes that have its output. The user `nest` runs it in
# its session, or the system does.
function Start-NestTask([string] $Name, [string] $Program, [string] $Arguments, [switch] $AsUser) {
    $action = New-ScheduledTaskAction -Execute $Program -Argument $Arguments
    $principal = if ($AsUser) {
        New-ScheduledTaskPrincipal -UserId "$env:COMPUTERNAME\nest" -LogonType Interactive -RunLevel Highest
    } else {
        New-ScheduledTaskPrincipal -UserId 'SYSTEM' -LogonType ServiceAccount -RunLevel Highest
    }
    $settings = New-ScheduledTaskSettingsSet -ExecutionTimeLimit ([TimeSpan]::Zero) -Priority 4 `
        -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries
    Register-ScheduledTask -TaskName $Name -Action $action -Principal $principal -Settings $settings -Force | Out-Null
    Start-ScheduledTask -TaskName $Name
}

# Prints a file that another process still writes to, byte for byte.
function Write-NestFile([string] $Path) {
    if (-not (Test-Path $Path)) { return }
    $file = [IO.File]::Open($Path, 'Open', 'Read', 'ReadWrite')
    $output = [Console]::OpenStandardOutput()
    $file.CopyTo($output)
    $output.Flush()
    $file.Close()
}
