#!/usr/bin/env bash
# A Triton server that runs on a CPU, for the tests: install_server.sh PYTHON FOLDER
#
# FOLDER/server: NVIDIA's server 2.51 and its client, out of the wheel nvidia-pytriton. FOLDER/model: the environment that
# the model runs in, with what PYTHON's own has, but NumPy 1: this server's Python backend reads NumPy 2's arrays wrongly.
set -euo pipefail
python=$1 folder=$2
quiet=(--quiet --disable-pip-version-check)
rm -rf "$folder"
"$python" -m venv "$folder/server"
"$folder/server/bin/pip" install "${quiet[@]}" 'nvidia-pytriton==0.7.0' 'tritonclient[grpc,http]'
site=$("$folder/server/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
triton=$site/pytriton/tritonserver
version=$("$python" -c 'import sys; print(f"{sys.version_info.major}.{sys.version_info.minor}")')
cp "$triton/python_backend_stubs/$version/triton_python_backend_stub" "$triton/backends/python/"
libraries=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')
cat > "$folder/server/tritonserver" << END
#!/bin/sh
export LD_LIBRARY_PATH='$libraries:$site/nvidia_pytriton.libs'
exec '$triton/bin/tritonserver' '--backend-directory=$triton/backends' "\$@"
END
chmod +x "$folder/server/tritonserver"

"$python" -m venv "$folder/model"
"$folder/model/bin/pip" install "${quiet[@]}" 'numpy<2'
site=$("$folder/model/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
ours=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
echo "import site; site.addsitedir('$ours')" > "$site/ours.pth"
touch "$folder/model/ready"
