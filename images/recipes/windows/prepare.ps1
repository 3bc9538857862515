# Makes a level of an installed Windows. The answer file runs it from the seed (the volume NESTSEED) when the user `nest` first logs on. It
# copies itself to the disk and continues there as a task of the system that Windows starts at each boot, so it survives the restarts that
# roles need. At the end it powers off. It needs no network.
#
# Beside it on the seed:
#   functions.ps1   the functions of the role
#   steps\NN.ps1    the steps of the role's preparation, in their order
#   steps.txt       for each step a line: NUMBER, exit statuses that mean success (with commas), restart or continue, the reason
#   files\          files of the user, which the steps find in $env:NEST_FILES
#
# It reports on the first serial port, in the same lines as disk/prepare.sh. A report that was begun before a restart is repeated first.

param([switch] $Continue)

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$work = "$env:SystemDrive\nestmatrix\prepare"
$task = 'nestmatrix-prepare'
$log = "$work\prepare.log"

if (-not $Continue) {
    New-Item -ItemType Directory -Force $work | Out-Null
    Copy-Item -Recurse -Force "$PSScriptRoot\*" $work
    $arguments = "-NoProfile -NonInteractive -ExecutionPolicy Bypass -File `"$work\prepare.ps1`" -Continue"
    $action = New-ScheduledTaskAction -Execute powershell.exe -Argument $arguments
    $principal = New-ScheduledTaskPrincipal -UserId 'SYSTEM' -LogonType ServiceAccount -RunLevel Highest
    $settings = New-ScheduledTaskSettingsSet -ExecutionTimeLimit ([TimeSpan]::Zero) -Priority 4 `
        -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries
    $trigger = New-ScheduledTaskTrigger -AtStartup
    Register-ScheduledTask -TaskName $task -Action $action -Principal $principal -Settings $settings -Trigger $trigger -Force | Out-Null
    Start-ScheduledTask -TaskName $task
    exit 0
}

$env:NEST_FILES = "$work\files"
$serial = $null

# Prints a line on the first serial port. Without a port, the machine shows the harness nothing, and ends by its time limit.
function Write-Line([string] $Line) {
    $text = ($Line -replace '[^\x20-\x7e]', ' ')
    if ($text.Length -gt 240) { $text = $text.Substring(0, 240) }
    Add-Content $log "$(Get-Date -Format s) $text"
    try {
        if (-not $script:serial) {
            $script:serial = New-Object IO.Ports.SerialPort 'COM1', 115200
            $script:serial.WriteTimeout = 5000
            $script:serial.Open()
        }
        # It begins with a line end, since the firmware's last line may not end with one.
        $script:serial.Write("`r`n$text`r`n")
    } catch {
        Add-Content $log "COM1: $_"
        if ($script:serial) { $script:serial.Dispose(); $script:serial = $null }
    }
}

function Write-Step([string] $What) { Write-Line "progress=$What" }

# A line of the report. It is kept, so that it is there after a restart.
function Write-Report([string] $Line) {
    Add-Content "$work\report.txt" $Line
    Write-Line $Line
}

# Runs a script in its own process. While it runs, lines on the console show that it has not stopped.
function Invoke-Script([string] $Path, [string] $What) {
    $output = "$Path.log"
    $arguments = "-NoProfile -NonInteractive -ExecutionPolicy Bypass -File `"$Path`""
    $process = Start-Process powershell.exe -ArgumentList $arguments -NoNewWindow -PassThru `
        -RedirectStandardOutput $output -RedirectStandardError "$output.err"
    # Without its handle, its exit status is lost.
    $null = $process.Handle
    $began = Get-Date
    while (-not $process.WaitForExit(10000)) {
        Write-Step "$What ($([int] ((Get-Date) - $began).TotalSeconds) s)"
    }
    [pscustomobject] @{ Status = $process.ExitCode; Output = @(Get-Content $output, "$output.err" | Where-Object { $_.Trim() }) }
}

function Stop-Preparation([int] $Status) {
    if ($Status -ne 0) {
        Get-WinEvent -FilterHashtable @{ LogName = 'Setup'; Level = 1, 2, 3 } -MaxEvents 5 -ErrorAction SilentlyContinue |
            ForEach-Object { Write-Line "progress=Setup log: $($_.Message)" }
    }
    Write-Line "nestmatrix-prepare-end $Status"
    Unregister-ScheduledTask -TaskName $task -Confirm:$false -ErrorAction SilentlyContinue
    Start-Sleep -Seconds 1
    shutdown.exe /s /f /t 0
    Start-Sleep -Seconds 600
    exit $Status
}

# Drivers that are not signed by Microsoft's own certificate would ask a user, unless their publisher is trusted.
function Add-Driver([string] $Folder) {
    $catalog = Get-ChildItem "$Folder\*.cat" | Select-Object -First 1
    $signer = (Get-AuthenticodeSignature $catalog.FullName).SignerCertificate
    if ($signer) {
        $store = New-Object Security.Cryptography.X509Certificates.X509Store 'TrustedPublisher', 'LocalMachine'
        $store.Open('ReadWrite')
        $store.Add($signer)
        $store.Close()
    }
    foreach ($driver in Get-ChildItem "$Folder\*.inf") {
        pnputil.exe /add-driver $driver.FullName /install | Add-Content $log
        # 259: it is there already. 3010: it is complete after a restart.
        if ($LASTEXITCODE -notin 0, 259, 3010) { throw "pnputil refused $($driver.Name) with $LASTEXITCODE" }
    }
}

# The agent, and the driver of its port. The port itself is only in the machines of levels, so its device is installed at a level's boot.
function Install-Agent {
    Write-Step 'looking for the volume with the drivers'
    $drives = Get-CimInstance Win32_LogicalDisk | Where-Object DriveType -eq 5 | ForEach-Object { "$($_.DeviceID)\" }
    $drive = $drives | Where-Object { Test-Path "$($_)guest-agent\qemu-ga-x86_64.msi" } | Select-Object -First 1
    if (-not $drive) { throw 'no CD has guest-agent\qemu-ga-x86_64.msi; was --drivers given the virtio-win.iso?' }
    $system = Get-NestSystem
    $folder = switch ("$($system.Id) $($system.Version)") {
        'windows-server 2016' { '2k16' }
        'windows-server 2019' { '2k19' }
        'windows-server 2022' { '2k22' }
        'windows-server 2025' { '2k25' }
        'windows 10' { 'w10' }
        default { 'w11' }
    }
    $known = @("$($drive)vioserial\$folder\amd64", "$($drive)vioserial\2k22\amd64", "$($drive)vioserial\w10\amd64")
    $vioserial = $known | Where-Object { Test-Path $_ } | Select-Object -First 1
    if (-not $vioserial) { throw "the CD with the drivers has no vioserial\$folder\amd64" }
    Write-Step 'installing the driver of virtio-serial'
    Add-Driver $vioserial
    Write-Report "change=installed the driver $vioserial"
    Write-Step 'installing the guest agent'
    $msi = "/i `"$($drive)guest-agent\qemu-ga-x86_64.msi`" /qn /norestart /l*v `"$work\qemu-ga.log`""
    $installer = Start-Process msiexec.exe -ArgumentList $msi -Wait -PassThru
    if ($installer.ExitCode -notin 0, 1641, 3010) { throw "the installer of the guest agent ended with $($installer.ExitCode)" }
    Set-Service QEMU-GA -StartupType Automatic
    Write-Report 'change=installed the guest agent'
}

# A level is killed when its stack ends, boots without a user, and must not sleep.
function Set-Behavior {
    Write-Step 'changing settings'
    $logon = 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon'
    Set-ItemProperty $logon AutoAdminLogon '1'
    Remove-ItemProperty $logon AutoLogonCount -ErrorAction SilentlyContinue
    Write-Report 'change=the user nest is logged on at each boot'
    # A level's disk is older than 42 days some day, and the logon would then ask for another password.
    net.exe accounts /maxpwage:unlimited | Add-Content $log
    if ($LASTEXITCODE -ne 0) { throw "net accounts ended with $LASTEXITCODE" }
    Write-Report 'change=passwords do not expire'
    powercfg.exe /hibernate off
    powercfg.exe /change standby-timeout-ac 0
    powercfg.exe /change monitor-timeout-ac 0
    Write-Report 'change=switched sleep, hibernation and fast startup off'
    bcdedit.exe /set '{current}' bootstatuspolicy ignoreallfailures | Add-Content $log
    bcdedit.exe /set '{current}' recoveryenabled no | Add-Content $log
    Write-Report 'change=boots without recovery after it was killed'
}

# What a step does not finish is done again after a restart.
function Complete-Once([string] $Name, [scriptblock] $Action) {
    if (Test-Path "$work\done-$Name") { return }
    & $Action
    New-Item -ItemType File -Force "$work\done-$Name" | Out-Null
}

try {
    . "$work\functions.ps1"
    Write-Line 'nestmatrix-prepare-begin'
    if (Test-Path "$work\report.txt") { Get-Content "$work\report.txt" | ForEach-Object { Write-Line $_ } }
    Complete-Once 'system' {
        $system = Get-NestSystem
        Write-Report "system=$($system.Id)"
        Write-Report "version=$($system.Version)"
    }
    Complete-Once 'agent' { Install-Agent }
    Complete-Once 'behavior' { Set-Behavior }
    foreach ($line in Get-Content "$work\steps.txt" | Where-Object { $_.Trim() }) {
        $number, $success, $after, $why = $line -split ' ', 4
        if (Test-Path "$work\done-$number") { continue }
        Write-Step "step ${number}: $why"
        $ended = Invoke-Script "$work\steps\$number.ps1" "step $number"
        if ("$($ended.Status)" -notin ($success -split ',')) {
            Write-Report "error=step $number ($why) ended with $($ended.Status)"
            $ended.Output | Select-Object -Last 5 | ForEach-Object { Write-Report "error=$_" }
            Stop-Preparation 1
        }
        Write-Report "change=step ${number}: $why"
        # Before the restart, or it would be done again.
        New-Item -ItemType File -Force "$work\done-$number" | Out-Null
        if ($after -eq 'restart') {
            Write-Step "restarting after step $number"
            shutdown.exe /r /f /t 0
            Start-Sleep -Seconds 600
            exit 0
        }
    }
    # Updates may have changed it.
    Write-Report "kernel=$((Get-NestSystem).Kernel)"
    Stop-Preparation 0
} catch {
    Write-Report "error=$($_.Exception.Message)"
    Write-Report "error=$($_.InvocationInfo.PositionMessage -split "`r?`n" | Select-Object -First 1)"
    Stop-Preparation 1
}
