//! SVG to PNG.

use resvg::{tiny_skia::Pixmap, usvg};

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
#[error("the picture could not be drawn: {0}")]
pub struct Error(String);

/// Draws `svg`. Text needs a font on this machine; without one the rest is drawn.
pub fn png(svg: &str) -> Result<Vec<u8>, Error> {
    let failed = |e: &dyn std::fmt::Display| Error(e.to_string());
    let mut options = usvg::Options::default();
    options.fontdb_mut().load_system_fonts();
    let tree = usvg::Tree::from_str(svg, &options).map_err(|e| failed(&e))?;
    let size = tree.size().to_int_size();
    let mut pixels = Pixmap::new(size.width(), size.height()).ok_or_else(|| Error("it has no size".into()))?;
    resvg::render(&tree, usvg::Transform::default(), &mut pixels.as_mut());
    pixels.encode_png().map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_picture_is_a_png() {
        let png = super::png("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\"/>").expect("drawn");
        assert!(png.starts_with(b"\x89PNG"));
        assert!(super::png("<svg").is_err());
    }
}
