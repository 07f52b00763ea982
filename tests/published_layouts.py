"""Small files in the layouts of published datasets, written with NumPy, Pillow and h5py alone."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (40, 56)


def save(path: Path, array: np.ndarray) -> None:
    """Write an array in the format that the name of the file says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".hdf5":
        import h5py

        with h5py.File(path, "w") as file:
            file["dataset"] = array
    else:
        Image.fromarray(array).save(path)


def photo(rng: np.random.Generator) -> np.ndarray:
    """Noise, 8-bit RGB."""
    return rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def unit_vectors(rng: np.random.Generator) -> np.ndarray:
    """Normals towards the camera."""
    vectors = rng.normal(size=(*SIZE, 3))
    vectors[..., 2] = abs(vectors[..., 2]) + 0.1
    return vectors / np.linalg.norm(vectors, axis=2, keepdims=True)


def cityscapes(root: Path) -> None:
    """Two cities, two training images and one for validation, with every id that label files can hold."""
    rng = np.random.default_rng(0)
    names = (
        "train/aachen/aachen_000000_000019",
        "train/bochum/bochum_000000_000313",
        "val/lindau/lindau_000000_000019",
    )
    for name in names:
        codes = rng.integers(0, 32258, SIZE).astype(np.uint16)
        codes[0, :3] = 0, 1, 2
        ids = rng.integers(0, 34, SIZE).astype(np.uint8)
        save(root / "leftImg8bit" / f"{name}_leftImg8bit.png", photo(rng))
        save(root / "gtFine" / f"{name}_gtFine_labelIds.png", ids)
        save(root / "gtFine" / f"{name}_gtFine_instanceIds.png", ids.astype(np.uint16))
        save(root / "gtFine" / f"{name}_gtFine_color.png", photo(rng))
        save(root / "disparity" / f"{name}_disparity.png", codes)


def mtan(root: Path, labels: str, classes: int, *, inverse: bool) -> None:
    """Two training images and one for validation in the .npy files of MTAN; without normals where depth is inverse."""
    rng = np.random.default_rng(1)
    for name in ("train/{}/0.npy", "train/{}/1.npy", "val/{}/0.npy"):
        depth = rng.uniform(0.004, 0.49, (*SIZE, 1)) if inverse else rng.uniform(0.7, 9.9, (*SIZE, 1))
        depth[:2] = 0
        normals = unit_vectors(rng)
        normals[-2:] = 0
        save(root / name.format("image"), (photo(rng) / 255).astype(np.float32))
        save(root / name.format(labels), rng.integers(-1, classes, SIZE).astype(np.float32))
        save(root / name.format("depth"), depth.astype(np.float32))
        if not inverse:
            save(root / name.format("normal"), normals.astype(np.float32))


def taskonomy(root: Path, folder: str) -> None:
    """Two views of a building and one of another.

    Args:
        folder: of the maps of a "{task}" in a "{building}".
    """
    rng = np.random.default_rng(2)
    for building, view in (("allensville", "0_view_0"), ("allensville", "0_view_1"), ("wainscott", "7_view_2")):
        depth = rng.integers(300, 5000, SIZE).astype(np.uint16)
        depth[:3] = 65535
        maps = {
            "rgb": photo(rng),
            "depth_zbuffer": depth,
            "normal": np.rint(127.5 * (unit_vectors(rng) + 1)).astype(np.uint8),
            "segment_semantic": rng.integers(0, 18, SIZE, dtype=np.uint8),
            "edge_texture": rng.integers(0, 65536, SIZE).astype(np.uint16),
            "keypoints2d": rng.integers(0, 65536, SIZE).astype(np.uint16),
        }
        for task, array in maps.items():
            domain = task.replace("segment_semantic", "segmentsemantic")
            save(root / folder.format(task=task, building=building) / f"point_{view}_domain_{domain}.png", array)


def hypersim(root: Path) -> None:
    """Two scenes, of which the first has two cameras; pixels without geometry have NaN."""
    rng = np.random.default_rng(3)
    rows = ["scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,split_partition_name"]
    for scene, camera, frame, split in (
        ("ai_001_001", "cam_00", 0, "train"),
        ("ai_001_001", "cam_01", 12, "train"),
        ("ai_003_010", "cam_00", 0, "val"),
    ):
        images = root / scene / "images"
        distance, normals = rng.uniform(0.8, 9, SIZE), unit_vectors(rng)
        distance[:2] = normals[:2] = np.nan
        semantic = rng.integers(1, 41, SIZE).astype(np.int16)
        semantic[:2] = -1
        geometry = images / f"scene_{camera}_geometry_hdf5" / f"frame.{frame:04d}"
        save(images / f"scene_{camera}_final_preview" / f"frame.{frame:04d}.tonemap.jpg", photo(rng))
        save(images / f"scene_{camera}_final_preview" / f"frame.{frame:04d}.color.jpg", photo(rng))
        save(Path(f"{geometry}.depth_meters.hdf5"), distance.astype(np.float16))
        save(Path(f"{geometry}.normal_cam.hdf5"), normals.astype(np.float16))
        save(Path(f"{geometry}.normal_world.hdf5"), normals.astype(np.float16))
        save(Path(f"{geometry}.semantic.hdf5"), semantic)
        save(images / f"scene_{camera}_final_hdf5" / f"frame.{frame:04d}.diffuse_reflectance.hdf5",
             rng.uniform(0, 1, (*SIZE, 3)).astype(np.float16))  # fmt: skip
        rows.append(f"{scene},{camera},{frame},True,,{split}")
    rows.append("ai_003_010,cam_00,1,False,excluded,val")
    (root / "metadata_images_split_scene_v1.csv").write_text("\n".join(rows) + "\n")
