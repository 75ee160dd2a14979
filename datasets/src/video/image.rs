//! Still images as RGB, with the meaning Pillow's `convert("RGB")` gives each mode.
//!
//! Grey is repeated, palettes are looked up, alpha is dropped without compositing, and EXIF orientation is ignored, as
//! in the reference processor. PNG and JPEG are read, whatever the file's name. JPEG goes through libjpeg, as in
//! Pillow: decoders differ in how they interpolate colour, by up to 4 grey levels.

use std::{
    fs::File,
    io::{BufReader, Cursor},
    path::Path,
};

use ::image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
    error::UnsupportedErrorKind,
};

use mozjpeg::ColorSpace;

use crate::DatasetError;

/// Images of more pixels are refused before any memory is taken (Pillow's own limit against decompression bombs).
pub(super) const MAX_PIXELS: u64 = 178_956_970;

/// Files of more bytes are refused before they are read.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Width and height in pixels, from the header alone.
///
/// # Errors
/// A file that cannot be opened, is no PNG or JPEG, or claims no or too many pixels.
pub fn image_size(path: &Path) -> Result<(u32, u32), DatasetError> {
    let io = |source| DatasetError::Io { path: path.to_owned(), source };
    let media = |message| DatasetError::Media { path: path.to_owned(), message };
    let file = File::open(path).map_err(io)?;
    let reader = ImageReader::new(BufReader::new(file)).with_guessed_format().map_err(io)?;
    known_format(reader.format()).map_err(media)?;
    let size = reader.into_dimensions().map_err(|error| media(reason(&error)))?;
    allowed_size(size).map_err(media)?;
    Ok(size)
}

/// Decodes an image.
///
/// # Errors
/// As [`image_size`], and a file that is damaged or cut short.
pub fn load_image(path: &Path) -> Result<RgbImage, DatasetError> {
    let io = |source| DatasetError::Io { path: path.to_owned(), source };
    let media = |message| DatasetError::Media { path: path.to_owned(), message };
    let num_bytes = std::fs::metadata(path).map_err(io)?.len();
    if num_bytes > MAX_FILE_BYTES {
        return Err(media(format!("the file has {num_bytes} bytes, too many for an image")));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    decode(&bytes).map_err(media)
}

fn decode(bytes: &[u8]) -> Result<RgbImage, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    let reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    if known_format(reader.format())? == ImageFormat::Jpeg
        && let Some(image) = decode_jpeg(bytes)?
    {
        return Ok(image);
    }
    let mut decoder = reader.into_decoder().map_err(|error| reason(&error))?;
    allowed_size(decoder.dimensions())?;
    let mut limits = Limits::default();
    // The largest allowed image has 8 bytes a pixel (16-bit RGBA); decoders need about as much again.
    limits.max_alloc = Some(MAX_PIXELS * 16);
    decoder.set_limits(limits).map_err(|error| reason(&error))?;
    let image = DynamicImage::from_decoder(decoder).map_err(|error| reason(&error))?;
    Ok(to_rgb(image))
}

/// A grey or colour JPEG; `None` for the four-colour ones, which libjpeg does not turn into RGB.
fn decode_jpeg(bytes: &[u8]) -> Result<Option<RgbImage>, String> {
    if !jpeg_is_whole(bytes) {
        return Err("the file is cut short: the JPEG has no end mark".into());
    }
    // libjpeg reports a damaged file by unwinding, with its message as the payload and without the panic hook.
    let decoded = std::panic::catch_unwind(|| -> Result<Option<RgbImage>, String> {
        let broken = |error: std::io::Error| format!("the image cannot be decoded: {error}");
        let decoder = mozjpeg::Decompress::new_mem(bytes).map_err(broken)?;
        let side = |side| u32::try_from(side).unwrap_or(u32::MAX);
        let (width, height) = (side(decoder.width()), side(decoder.height()));
        allowed_size((width, height))?;
        if !matches!(
            decoder.color_space(),
            ColorSpace::JCS_GRAYSCALE | ColorSpace::JCS_YCbCr | ColorSpace::JCS_RGB
        ) {
            return Ok(None);
        }
        let mut rows = decoder.rgb().map_err(broken)?;
        let pixels = rows.read_scanlines::<u8>().map_err(broken)?;
        rows.finish().map_err(broken)?;
        RgbImage::from_raw(width, height, pixels)
            .map(Some)
            .ok_or_else(|| "the image has too few pixels".into())
    });
    decoded.unwrap_or_else(|payload| {
        let message = payload.downcast_ref::<String>().map_or("", String::as_str);
        Err(format!("the image cannot be decoded: {message}"))
    })
}

fn to_rgb(image: DynamicImage) -> RgbImage {
    let high = |value: u16| (value >> 8) as u8;
    let (width, height) = (image.width(), image.height());
    match image {
        DynamicImage::ImageRgb8(image) => image,
        // Pillow clips a 16-bit grey instead of scaling it: only black and near-black differ from white.
        DynamicImage::ImageLuma16(image) => RgbImage::from_fn(width, height, |x, y| {
            let grey = image.get_pixel(x, y).0[0].min(255) as u8;
            [grey; 3].into()
        }),
        // Other 16-bit modes keep the high byte.
        DynamicImage::ImageLumaA16(image) => {
            RgbImage::from_fn(width, height, |x, y| [high(image.get_pixel(x, y).0[0]); 3].into())
        }
        DynamicImage::ImageRgb16(image) => {
            RgbImage::from_fn(width, height, |x, y| image.get_pixel(x, y).0.map(high).into())
        }
        DynamicImage::ImageRgba16(image) => RgbImage::from_fn(width, height, |x, y| {
            let [red, green, blue, _] = image.get_pixel(x, y).0;
            [high(red), high(green), high(blue)].into()
        }),
        other => other.into_rgb8(),
    }
}

fn known_format(format: Option<ImageFormat>) -> Result<ImageFormat, String> {
    match format {
        Some(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => Ok(format),
        Some(other) => Err(format!("the image is {other:?}; only PNG and JPEG are read: convert it")),
        None => Err("not an image: neither PNG nor JPEG".into()),
    }
}

fn allowed_size((width, height): (u32, u32)) -> Result<(), String> {
    if width == 0 || height == 0 {
        return Err(format!("the image has no pixels ({width}x{height})"));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!(
            "the header claims {width}x{height} pixels, more than {MAX_PIXELS} in all: refused"
        ));
    }
    Ok(())
}

fn reason(error: &ImageError) -> String {
    match error {
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the file is cut short".into()
        }
        ImageError::Unsupported(error) if matches!(error.kind(), UnsupportedErrorKind::Format(_)) => {
            "not an image: neither PNG nor JPEG".into()
        }
        other => format!("the image cannot be decoded: {other}"),
    }
}

/// Whether the end mark follows the start of the picture's data. The decoder fills what is missing with grey, which
/// would train on pictures that are not there.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xDA;
    let mut at = 2;
    // The header's segments are stepped over by their lengths: a thumbnail inside has an end mark of its own.
    while let Some(&[mark, kind, high, low]) =
        bytes.get(at..at + 4).and_then(|head| <&[u8; 4]>::try_from(head).ok())
    {
        if mark != 0xFF {
            break;
        }
        match kind {
            // Fill bytes, and marks without a length.
            0xFF => at += 1,
            0x01 | 0xD0..=0xD8 => at += 2,
            START_OF_SCAN => break,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    bytes.get(at..).is_some_and(|data| memchr::memmem::find(data, &[0xFF, 0xD9]).is_some())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use ::image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder, codecs::png::PngEncoder};

    use super::{decode, image_size, load_image};
    use crate::DatasetError;

    fn png(data: &[u8], width: u32, height: u32, color: ExtendedColorType) -> Vec<u8> {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes).write_image(data, width, height, color).unwrap();
        bytes
    }

    fn pixels(bytes: &[u8]) -> Vec<[u8; 3]> {
        decode(bytes).unwrap().pixels().map(|pixel| pixel.0).collect()
    }

    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(data);
        [&(data.len() as u32).to_be_bytes(), kind.as_slice(), data, &crc.sum().to_be_bytes()].concat()
    }

    /// A PNG put together chunk by chunk: what encoders do not write.
    fn raw_png(size: (u32, u32), depth: u8, color: u8, chunks: &[(&[u8; 4], &[u8])], rows: &[u8]) -> Vec<u8> {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(rows).unwrap();
        let header = [&size.0.to_be_bytes()[..], &size.1.to_be_bytes(), &[depth, color, 0, 0, 0]].concat();
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        bytes.extend(chunk(b"IHDR", &header));
        for (kind, data) in chunks {
            bytes.extend(chunk(kind, data));
        }
        bytes.extend(chunk(b"IDAT", &zlib.finish().unwrap()));
        bytes.extend(chunk(b"IEND", &[]));
        bytes
    }

    // Expected values below are what Pillow 11.3 gives for the same bytes.

    #[test]
    fn eight_bit_modes() {
        assert_eq!(pixels(&png(&[7, 200], 2, 1, ExtendedColorType::L8)), [[7; 3], [200; 3]]);
        assert_eq!(pixels(&png(&[7, 0, 200, 255], 2, 1, ExtendedColorType::La8)), [[7; 3], [200; 3]]);
        assert_eq!(
            pixels(&png(&[1, 2, 3, 0, 4, 5, 6, 128], 2, 1, ExtendedColorType::Rgba8)),
            [[1, 2, 3], [4, 5, 6]],
            "alpha is dropped, not composited"
        );
    }

    #[test]
    fn sixteen_bit_modes() {
        let grey: Vec<u8> =
            [0u16, 1, 200, 255, 256, 65535].iter().flat_map(|grey| grey.to_ne_bytes()).collect();
        assert_eq!(
            pixels(&png(&grey, 6, 1, ExtendedColorType::L16)),
            [[0; 3], [1; 3], [200; 3], [255; 3], [255; 3], [255; 3]]
        );
        let color: Vec<u8> =
            [0x12ffu16, 0x00ff, 0xff80].iter().flat_map(|value| value.to_ne_bytes()).collect();
        assert_eq!(pixels(&png(&color, 1, 1, ExtendedColorType::Rgb16)), [[0x12, 0x00, 0xff]]);
    }

    #[test]
    fn palettes_and_bits() {
        let palette: &[u8] = &[10, 20, 30, 40, 50, 60];
        assert_eq!(
            pixels(&raw_png((2, 1), 8, 3, &[(b"PLTE", palette), (b"tRNS", &[0, 255])], &[0, 1, 0])),
            [[40, 50, 60], [10, 20, 30]]
        );
        assert_eq!(pixels(&raw_png((3, 1), 1, 0, &[], &[0, 0b1010_0000])), [[255; 3], [0; 3], [255; 3]]);
    }

    fn from_hex(text: &str) -> Vec<u8> {
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
        text.as_bytes().chunks(2).map(|pair| digit(pair[0]) * 16 + digit(pair[1])).collect()
    }

    #[test]
    fn a_jpeg_with_halved_colour_is_equal_to_pillows_to_the_bit() {
        // Saved and read by Pillow: 6 x 5 pixels, quality 70, colour at half the width and height.
        let file = "ffd8ffe000104a46494600010100000100010000ffdb0043000a07070807060a0808080b0a0a0b0e18100e0d0d0e1d151611\
             18231f2524221f2221262b372f26293429212230413134393b3e3e3e252e4449433c48373d3e3bffdb0043010a0b0b0e0d0e\
             1c10101c3b2822283b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b\
             3b3b3b3b3b3b3b3bffc00011080005000603012200021101031101ffc4001f00000105010101010101000000000000000001\
             02030405060708090a0bffc400b5100002010303020403050504040000017d01020300041105122131410613516107227114\
             328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a53545556\
             5758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5\
             b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffc4001f010003\
             0101010101010101010000000000000102030405060708090a0bffc400b51100020102040403040705040400010277000102\
             031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a35\
             363738393a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495\
             969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9ea\
             f2f3f4f5f6f7f8f9faffda000c03010002110311003f00afafc767e10d2ace482d7ce6b976527705da001ea0fafe94514576\
             c69c6bdea54d5b6fabee4d094e586a52e792bae9292eafa2691fffd9";
        let pixels = "000ad9232bd4382c8e7b3e84b5267ee93193172adc303fcc50559789668ece679fe55d9d4e68df5170c26990978a9d87ab97\
             8e936a684f86d85c96c47fbda8b2ddb0b2b19c98827758bfff72d0f688d7c4c0e2c97a516354082e";
        let image = decode(&from_hex(file)).unwrap();
        assert_eq!((image.dimensions(), image.into_raw()), ((6, 5), from_hex(pixels)));
    }

    #[test]
    fn exif_orientation_is_ignored() {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 90)
            .write_image(&[90; 3 * 16 * 8], 16, 8, ExtendedColorType::Rgb8)
            .unwrap();
        // Orientation 6: turn by a quarter.
        let tiff = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let mut turned = vec![0xFF, 0xD8, 0xFF, 0xE1];
        turned.extend((tiff.len() as u16 + 2).to_be_bytes());
        turned.extend(tiff);
        turned.extend(&bytes[2..]);
        assert_eq!(decode(&turned).unwrap().dimensions(), (16, 8));
    }

    #[test]
    fn bad_files_are_errors_that_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad.png");
        let check = |bytes: &[u8], wanted: &str| {
            std::fs::write(&path, bytes).unwrap();
            let error = load_image(&path).unwrap_err().to_string();
            assert!(error.contains("bad.png: ") && error.contains(wanted), "{error}");
        };
        check(b"", "empty");
        check(b"hello", "not an image");
        check(b"GIF89a\x01\0\x01\0\0\0\0", "only PNG and JPEG");
        check(&raw_png((100_000, 100_000), 8, 2, &[], &[0]), "100000x100000");
        assert!(image_size(&path).unwrap_err().to_string().contains("refused"));
        check(&raw_png((0, 5), 8, 2, &[], &[0]), "");
        let noise: Vec<u8> =
            (0..64 * 64 * 3u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let whole = png(&noise, 64, 64, ExtendedColorType::Rgb8);
        for num_bytes in [20, 60, whole.len() / 2] {
            check(&whole[..num_bytes], "");
        }
        let mut whole = Vec::new();
        JpegEncoder::new_with_quality(&mut whole, 90)
            .write_image(&noise, 64, 64, ExtendedColorType::Rgb8)
            .unwrap();
        for num_bytes in [3, 100, whole.len() / 2, whole.len() - 2] {
            check(&whole[..num_bytes], "");
        }
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(load_image(&path).unwrap().dimensions(), image_size(&path).unwrap());
        assert!(matches!(load_image(&folder.path().join("gone.png")), Err(DatasetError::Io { .. })));
    }
}
